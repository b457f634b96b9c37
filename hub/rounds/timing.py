"""How fast devices were in their last rounds: medians, for the next schedule. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

import msgspec

from hub.rounds.state import JobState, Update
from hub.scheduling.contract import DeviceTiming, Member

#: Updates that count. Devices get faster and slower; five bury one bad link.
KEPT = 5
#: Rounds that are looked at, for devices that take part only now and then.
LOOKED_AT = 50
#: Transfers smaller than this measure the latency, not the rate.
LEAST_BYTES = 20_000


class _Seen(msgspec.Struct):
    updates: list[Update] = []
    served: int = 0
    misses: int = 0


def timings(state: JobState, adapter_bytes: int) -> dict[str, DeviceTiming]:
    """Return what the job's devices took, by device.

    Args:
        state: of the job.
        adapter_bytes: what a device gathers before it can begin.
    """
    devices: dict[str, _Seen] = defaultdict(_Seen)
    for record in state.records[-LOOKED_AT:]:
        for device, member in record.members.items():
            if member.member.kind != "train":
                continue
            seen = devices[device]
            seen.served += 1
            if member.state == "missed":
                seen.misses += 1
            elif member.state in ("delivered", "late"):
                seen.misses = 0
        for device, update in record.accepted.items():
            devices[device].updates.append(update)
    return {device: _timing(seen, adapter_bytes) for device, seen in devices.items()}


def first_plans(state: JobState) -> dict[str, Member]:
    """Return each device's first training in this job."""
    first: dict[str, Member] = {}
    for record in state.records:
        for device, member in record.members.items():
            if member.member.kind == "train":
                first.setdefault(device, member.member)
    return first


def base_known(state: JobState) -> set[str]:
    """Return the devices that reported their loss without any adapter."""
    return {
        device
        for record in state.records
        for device, losses in record.losses.items()
        if "base" in losses
    }


def _timing(seen: _Seen, adapter_bytes: int) -> DeviceTiming:
    last = seen.updates[-KEPT:]
    return DeviceTiming(
        seconds_per_step=_median(u.train.seconds_per_step for u in last),
        load_s=_median(u.train.load_s for u in last) or 0.0,
        up_bytes_per_s=_median(
            u.size_bytes / u.upload_s
            for u in last
            if u.size_bytes >= LEAST_BYTES and u.upload_s > 0
        ),
        down_bytes_per_s=_median(
            adapter_bytes / u.download_s
            for u in last
            if adapter_bytes >= LEAST_BYTES and u.download_s > 0.05
        ),
        served=seen.served,
        misses=seen.misses,
    )


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None
