"""The hub's memory while updates of 50 MB arrive: from 5 devices, and from 20.

The devices are light ones that speak the protocol; the shape is TinyLlama's (1.1 billion
parameters), whose LoRA of rank 16 on all linear layers has 12,615,680 numbers: 50.5 MB raw.
"""

import json
import threading
from pathlib import Path

import msgspec
import numpy as np
import psutil
from safetensors.numpy import save_file

from bench.light_device import LightDevice
from bench.report import BenchError, Row, at_most, checked, say, told
from bench.sampled import Watch
from bench.shapes import LLAMA_1B
from bench.stand import FLEET, Stand

_FEW, _MANY = 5, 20
_RANK = 16
_UPDATE_BYTES = 50_462_720
_MUST_MB = 150.0
_SAME_PERCENT, _SAME_MB = 10.0, 5.0
_JOB_S = 1500.0
_PERIOD_S = 0.1
#: Issue 4: Flower 1.42's server processes with 20 updates of 50 MB.
_FLOWER_MB = 4_280


class _Peak(msgspec.Struct, frozen=True):
    """The hub's memory in one job."""

    idle_bytes: int
    peak_bytes: int
    anonymous_bytes: int  # at most, of all samples: without mapped files

    @property
    def over_mb(self) -> float:
        return (self.peak_bytes - self.idle_bytes) / 1e6


def big_update_rows(folder: Path, *, quick: bool) -> list[Row]:
    """Return the hub's peak over its idle memory for few and for many devices.

    Args:
        folder: for the base, state and logs.
        quick: few devices only.
    """
    base = _write_base(folder / "base")
    counts = (_FEW,) if quick else (_FEW, _MANY)
    peaks = {count: _measure(folder / f"fleet-{count}", base, count) for count in counts}
    rows = []
    for count, peak in peaks.items():
        figure = f"{count} x 50 MB: hub's peak over idle"
        rows += [
            told(f"{count} devices: hub when idle", peak.idle_bytes / 1e6, "MB"),
            at_most(figure, peak.over_mb, "MB", _MUST_MB),
            told(f"{count} devices: anonymous memory at most", peak.anonymous_bytes / 1e6, "MB"),
        ]
    if _MANY in peaks:
        few, many = peaks[_FEW].over_mb, peaks[_MANY].over_mb
        apart = many - few
        rows.append(
            checked(
                f"the same: {_MANY} less {_FEW} devices",
                apart,
                "MB",
                f"within {_SAME_PERCENT:g} % or {_SAME_MB:g}",
                abs(apart) <= max(_SAME_MB, few * _SAME_PERCENT / 100.0),
            )
        )
    return [*rows, told("20 x 50 MB, Flower 1.42 (quoted from issue 4)", _FLOWER_MB, "MB")]


def _write_base(folder: Path) -> Path:
    """Write a base of which only the shape is real: nobody loads its weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_1B.config))
    save_file({"model.norm.weight": np.ones(2048, np.float16)}, folder / "model.safetensors")
    return folder


def _measure(folder: Path, base: Path, count: int) -> _Peak:
    with Stand(folder) as stand:
        fleet = [LightDevice(stand.broker_url, FLEET, f"light-{n:02}", _RANK) for n in range(count)]
        for device in fleet:
            device.start()
        try:
            stand.wait_for("all light devices", lambda: stand.ready_devices() == count)
            idle_bytes = psutil.Process(stand.hub_pid).memory_info().rss
            with _Watching(stand.hub_pid) as watching:
                detail = stand.run_job(_job(base, count), _JOB_S)
        except BenchError as error:
            problems = [device.problem for device in fleet if device.problem]
            raise BenchError(f"{error} {'; '.join(problems)}") from error
        finally:
            for device in fleet:
                device.stop()
    sizes = [member.update_bytes for member in detail.rounds[0].members]
    if len(sizes) != count or min(sizes) < _UPDATE_BYTES:
        raise BenchError(f"updates of {sizes} bytes came; {count} x {_UPDATE_BYTES} were expected.")
    peak = _Peak(idle_bytes, watching.peak_bytes, watching.anonymous_bytes)
    say(f"{count} devices: idle {idle_bytes / 1e6:.0f} MB, peak {peak.peak_bytes / 1e6:.0f} MB")
    return peak


class _Watching:
    """Watches a process and those below it from a thread; a context manager."""

    def __init__(self, pid: int) -> None:
        self._watch = Watch(psutil.Process(pid))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def peak_bytes(self) -> int:
        """Greatest sum of ``VmHWM`` over the processes that lived at one instant."""
        return self._watch.peak_bytes

    @property
    def anonymous_bytes(self) -> int:
        """Greatest anonymous memory of the process that had most."""
        return max(peak.anonymous_bytes for peak in self._watch.peaks.values())

    def __enter__(self) -> "_Watching":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._watch.look()

    def _look(self) -> None:
        while not self._stopping.wait(_PERIOD_S):
            self._watch.look()


def _job(base: Path, devices: int) -> dict[str, object]:
    return {
        "job": "memory",
        "model": {"base": str(base)},
        "lora": {"rank": _RANK},
        "rounds": 1,
        "cohort": {"min": devices, "max": devices},
        "deadline_s": 1200,
        "local": {"steps": 5, "batch": 4, "seq_len": 128, "lr": 0.003},
        "codec": "raw",
        "seed": 7,
    }
