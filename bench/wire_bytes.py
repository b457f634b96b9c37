"""Bytes per device and round, all of TCP's included, and what the small codecs cost in loss.

Four real agents, each behind a cable of its own, train the small base on other packages of the
standard library. The same job runs with ``codec: auto`` and with ``codec: raw``, once for each
seed. A job before them brings the base to the devices (over HTTP), and measures them.
"""

import math
import statistics
import threading
import time
from pathlib import Path

import msgspec

from bench.listening import Listener
from bench.network import Network, Port, Traffic
from bench.overheard import Share, shares
from bench.real_agent import agent_command
from bench.report import BenchError, Row, at_most, below, say, told
from bench.small_base import LORA_NUMBERS_PER_RANK, VOCABULARY
from bench.stand import Stand
from hub.api.control import JobDetail
from hub.demo.texts import PACKAGES, write_text

_DEVICES = 4
_RANK = 16
_ROUNDS = 5
_SEEDS = (7, 8, 9)
_MUST_BYTES, _AIM_BYTES = 40_000.0, 25_000.0
_MUST_RATIO = 1.01
_JOB_S = 900.0
_PERIOD_S = 0.01
#: Issue 4, Flower 1.42 at the same work: bytes per device and round, up and down.
_FLOWER = (1_005_000, 818_000)
_NOTHING = Share(0, 0, 0)


class _JobRun(msgspec.Struct, frozen=True, kw_only=True):
    """What one job cost, and how good it became."""

    up_bytes: list[float]  # per round, of each device
    down_bytes: list[float]
    loss: float  # held out, mean over the devices, after the last round
    base_loss: float
    update_bytes: float  # mean of the accepted updates
    shares: dict[str, dict[str, Share]]  # by way, what each kind took, of all devices and rounds


class Meter:
    """Reads cables all the time, so that one can ask later what had passed by when.

    Args:
        ports: the cables; whoever makes this must be in their exchange.
    """

    def __init__(self, ports: list[Port]) -> None:
        self._ports = ports
        self._seen: list[tuple[float, list[Traffic]]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def at(self, ts: float) -> list[Traffic]:
        """Return each cable's traffic at a Unix time, as of the last look before it."""
        before = [seen for at, seen in self._seen if at <= ts]
        if not before:
            raise BenchError("the meter was asked for a time before its first look.")
        return before[-1]

    def _read(self) -> None:
        while not self._stopping.wait(_PERIOD_S):
            self._seen.append((time.time(), [port.traffic() for port in self._ports]))


def bytes_rows(folder: Path, base: Path, *, quick: bool) -> list[Row]:
    """Return bytes per device and round for ``auto`` and ``raw``, and their losses.

    Args:
        folder: for state and logs.
        base: the trained small base.
        quick: one seed instead of three.
    """
    seeds = _SEEDS[:1] if quick else _SEEDS
    runs: dict[tuple[str, int], _JobRun] = {}
    with Network() as network:
        place = network.place(network.plug())
        ports = [network.plug() for _ in range(_DEVICES)]
        with Listener(ports) as listener, Stand(folder / "stand", place) as stand:
            _start_agents(stand, ports, folder)
            stand.run_job(_job("warm", base, "auto", seed=1) | {"rounds": 1}, _JOB_S)
            for seed in seeds:
                for codec in ("auto", "raw"):
                    job = _job(f"{codec}-{seed}", base, codec, seed=seed)
                    runs[codec, seed] = _run(stand, ports, listener, job)
    return _rows(runs, seeds)


def _start_agents(stand: Stand, ports: list[Port], folder: Path) -> None:
    for number, port in enumerate(ports):
        text = write_text(folder, PACKAGES[number], 150_000)
        device = f"device-{number}"
        command = agent_command(stand.broker_url, device, text.path, folder / device, memory="2GB")
        stand.start(device, port.namespace.command(command))
    stand.wait_for("the agents", lambda: stand.ready_devices() == _DEVICES)


def _job(name: str, base: Path, codec: str, *, seed: int) -> dict[str, object]:
    return {
        "job": name,
        "model": {"base": str(base)},
        "lora": {"rank": _RANK, "min_rank": _RANK},
        "rounds": _ROUNDS,
        "cohort": {"min": _DEVICES, "max": _DEVICES},
        "deadline_s": 600,  # nobody is left out because the machine is busy
        "local": {
            "steps": 10,
            "batch": 4,
            "min_batch": 4,
            "seq_len": 256,
            "min_seq_len": 256,
            "lr": 0.003,
        },
        "codec": codec,
        "seed": seed,
    }


def _run(stand: Stand, ports: list[Port], listener: Listener, job: dict[str, object]) -> _JobRun:
    """Run a job; count from its submission to the last round's combination."""
    name = str(job["job"])
    with Meter(ports) as meter:
        time.sleep(10 * _PERIOD_S)
        began = time.time()
        detail = stand.run_job(job, _JOB_S)
        over = [
            event.ts
            for event in stand.client.events(name)
            if event.kind == "Combined" and event.data["round"] == _ROUNDS
        ]
        if len(over) != 1:
            raise BenchError(f"job {name} combined its last round {len(over)} times.")
        passed = [
            now.since(then) for now, then in zip(meter.at(over[0]), meter.at(began), strict=True)
        ]
    _check_complete(detail)
    heard = [one for cable in listener.overheard for one in cable.heard]
    updates = [member.update_bytes for one in detail.rounds for member in one.members]
    run = _JobRun(
        up_bytes=[one.up_bytes / _ROUNDS for one in passed],
        down_bytes=[one.down_bytes / _ROUNDS for one in passed],
        loss=statistics.fmean(detail.loss_after.values()),
        base_loss=statistics.fmean(detail.loss_before.values()),
        update_bytes=statistics.fmean(updates),
        shares={
            way: shares(heard, up=way == "up", since=began, until=over[0]) for way in ("up", "down")
        },
    )
    say(
        f"{name}: {statistics.fmean(run.up_bytes):.0f} up, {statistics.fmean(run.down_bytes):.0f} "
        f"down, updates of {run.update_bytes:.0f} bytes, loss {run.loss:.4f}"
    )
    return run


def _check_complete(detail: JobDetail) -> None:
    delivered = sum(member.state == "delivered" for one in detail.rounds for member in one.members)
    if delivered != _ROUNDS * _DEVICES:
        raise BenchError(f"only {delivered} updates were delivered in {_ROUNDS} rounds.")
    if len(detail.loss_after) != _DEVICES or len(detail.loss_before) != _DEVICES:
        raise BenchError("a device did not measure the base, or the last adapter.")


def _rows(runs: dict[tuple[str, int], _JobRun], seeds: tuple[int, ...]) -> list[Row]:
    rows = []
    unit = "bytes"
    for way, quoted in zip(("up", "down"), _FLOWER, strict=True):
        auto, raw = (
            [value for seed in seeds for value in getattr(runs[codec, seed], f"{way}_bytes")]
            for codec in ("auto", "raw")
        )
        figure = f"{way}, auto: bytes per device and round"
        rows += [
            at_most(figure, round(statistics.fmean(auto)), unit, _MUST_BYTES, aim=_AIM_BYTES),
            told(f"{way}, auto: median of the devices", round(statistics.median(auto)), unit),
            told(f"{way}, auto: greatest of the devices", round(max(auto)), unit),
            told(f"{way}, raw: mean", round(statistics.fmean(raw)), unit),
            told(f"{way}, Flower 1.42 (quoted from issue 4)", quoted, unit),
        ]
    auto_update = statistics.fmean(runs["auto", seed].update_bytes for seed in seeds)
    auto_up = statistics.fmean(value for seed in seeds for value in runs["auto", seed].up_bytes)
    numbers = LORA_NUMBERS_PER_RANK * _RANK
    rows += [
        told("an update as a blob, auto: mean", round(auto_update), unit),
        told("the same, bits a parameter", auto_update * 8 / numbers, "bits"),
        told("up, auto: all that is not the update", round(auto_up - auto_update), unit),
        *_share_rows(runs, seeds),
        *_loss_rows(runs, seeds),
    ]
    return rows


def _share_rows(runs: dict[tuple[str, int], _JobRun], seeds: tuple[int, ...]) -> list[Row]:
    """Return what each kind of message took with ``auto``, and TCP, per device and round."""
    rows = []
    times = len(seeds) * _DEVICES * _ROUNDS
    for way in ("up", "down"):
        kinds = {kind for seed in seeds for kind in runs["auto", seed].shares[way]}
        found = {
            kind: [runs["auto", seed].shares[way].get(kind, _NOTHING) for seed in seeds]
            for kind in kinds
        }
        sizes = {kind: sum(one.size_bytes for one in found[kind]) / times for kind in kinds}
        for kind in sorted(kinds, key=lambda kind: -sizes[kind]):
            count = sum(one.count for one in found[kind]) / times
            payload = sum(one.payload_bytes for one in found[kind]) / times
            of = f"{count:.1f} of them" + (f", {payload:.0f} of payload" if payload else "")
            rows.append(told(f"{way}, auto: {kind} ({of})", round(sizes[kind]), "bytes"))
    return rows


def _loss_rows(runs: dict[tuple[str, int], _JobRun], seeds: tuple[int, ...]) -> list[Row]:
    loss_unit = "nats/token"
    base = statistics.fmean(runs["raw", seed].base_loss for seed in seeds)
    rows = [
        below(
            "held-out loss of the bare base, against half of an even guess",
            base,
            loss_unit,
            0.5 * math.log(VOCABULARY),
        )
    ]
    for seed in seeds:
        auto, raw = runs["auto", seed].loss, runs["raw", seed].loss
        rows += [
            told(f"held-out loss after round {_ROUNDS}, seed {seed}, auto", auto, loss_unit),
            told(f"held-out loss after round {_ROUNDS}, seed {seed}, raw", raw, loss_unit),
        ]
    mean = {
        codec: statistics.fmean(runs[codec, seed].loss for seed in seeds)
        for codec in ("auto", "raw")
    }
    figure = f"held-out loss, auto over raw, mean of {len(seeds)} seeds"
    learnt = below("raw: the loss falls under the base's", mean["raw"], loss_unit, base)
    return [*rows, learnt, at_most(figure, mean["auto"] / mean["raw"], "x", _MUST_RATIO)]
