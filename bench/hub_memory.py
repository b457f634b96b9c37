"""The hub's peak memory against the number of devices: updates rest on disk, so it hardly grows."""

import time
from pathlib import Path

from bench.light_device import LightDevice
from bench.report import MIB, BenchError, Row, below, checked, say, told
from bench.stand import FLEET, Stand
from edge_agent.probe.process import peak_bytes
from hub.api.control import JobDetail

_FEW, _MANY = 6, 24
_RANK = 16
_ROUNDS = 3
_JOB_S = 300.0


def hub_memory_rows(folder: Path, base: Path) -> list[Row]:
    """Return the hub's peak with few and with many devices, and by how much it differs.

    Args:
        folder: for state and logs.
        base: the job's model; only its shape matters.
    """
    peaks = {}
    rows = []
    for devices in (_FEW, _MANY):
        peak, detail, seconds = _measure(folder / f"hub-{devices}", base, devices)
        peaks[devices] = peak
        delivered = sum(
            member.state == "delivered" for one in detail.rounds for member in one.members
        )
        say(f"{devices} devices: {peak / MIB:.1f} MiB, {delivered} updates, {seconds:.1f} s")
        rows += [
            told(f"hub's peak, {devices} devices", peak / MIB, "MiB"),
            checked(
                f"updates of {devices} devices accepted in {_ROUNDS} rounds",
                delivered,
                "",
                f"= {devices * _ROUNDS}",
                delivered == devices * _ROUNDS,
            ),
        ]
    difference = abs(peaks[_MANY] / peaks[_FEW] - 1.0) * 100.0
    return [*rows, below(f"hub's peak: {_MANY} against {_FEW} devices", difference, "%", 20)]


def _measure(folder: Path, base: Path, count: int) -> tuple[int, JobDetail, float]:
    """Run the job with so many devices; return the hub's peak, the job and its seconds."""
    with Stand(folder) as stand:
        fleet = [LightDevice(stand.broker_url, FLEET, f"light-{n:02}", _RANK) for n in range(count)]
        for device in fleet:
            device.start()
        try:
            stand.wait_for("all light devices", lambda: stand.ready_devices() == count)
            began = time.monotonic()
            detail = stand.run_job(_job(base, count), _JOB_S)
            seconds = time.monotonic() - began
            peak = peak_bytes(stand.hub_pid)
        except BenchError as error:
            problems = [device.problem for device in fleet if device.problem]
            raise BenchError(f"{error} {'; '.join(problems)}") from error
        finally:
            for device in fleet:
                device.stop()
    if peak is None:
        raise BenchError(f"the hub ended too early; logs: {folder}")
    return peak, detail, seconds


def _job(base: Path, devices: int) -> dict[str, object]:
    """Return the job: the same for any number of devices, all of which it waits for."""
    return {
        "job": "memory",
        "model": {"base": str(base)},
        "lora": {"rank": _RANK},
        "rounds": _ROUNDS,
        "cohort": {"min": devices, "max": devices},
        "local": {"steps": 5, "batch": 4, "seq_len": 128, "lr": 0.003},
        "seed": 7,
    }
