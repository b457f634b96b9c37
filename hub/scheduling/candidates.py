"""Which devices could take part in a round, and in whose turn it is."""

import hashlib
from collections.abc import Collection, Iterable, Mapping

import msgspec

from hub.scheduling.contract import FORWARD_ONLY, DeviceTiming, DeviceView
from wire.messages.plan import RungPlan

EXCLUDED = "tried already in this round"


class Candidate(msgspec.Struct, frozen=True):
    """A device whose plan for the job is known and fits."""

    device: DeviceView
    plan: RungPlan


class Candidates(msgspec.Struct, frozen=True):
    """The devices of a fleet by what they can do, each list in the order of its turns."""

    trainers: list[Candidate]
    evaluators: list[Candidate]
    left_out: dict[str, str]


def find_candidates(
    devices: Iterable[DeviceView],
    history: Mapping[str, DeviceTiming],
    *,
    exclude: Collection[str],
    seed: int,
    round_: int,
) -> Candidates:
    """Return who could train, who could evaluate, and why the others can do neither.

    Whoever served least comes first; among equals a seeded draw decides, anew in each round.
    """
    found = Candidates([], [], {})
    for device in sorted(devices, key=lambda one: _turn(one.id, history, seed, round_)):
        plan = device.plan
        if device.id in exclude:
            found.left_out[device.id] = EXCLUDED
        elif not device.ready:
            found.left_out[device.id] = device.not_ready_reason
        elif plan is None:
            found.left_out[device.id] = "has not said yet which rung it takes in this job"
        elif not plan.fits or plan.role == "none":
            missing = f"{plan.missing_bytes / 1e6:.0f} MB of memory are missing"
            found.left_out[device.id] = f"{missing}; {plan.reason}" if plan.reason else missing
        elif plan.role == "infer" and plan.rung != FORWARD_ONLY:
            found.evaluators.append(Candidate(device, plan))
        else:
            found.trainers.append(Candidate(device, plan))
    return found


def _turn(
    device: str, history: Mapping[str, DeviceTiming], seed: int, round_: int
) -> tuple[int, str, str]:
    timing = history.get(device)
    draw = hashlib.sha256(f"{seed}.{round_}.{device}".encode()).hexdigest()
    return (timing.served if timing else 0, draw, device)
