"""What was measured of this device: the runtime's own bytes, and how fast a step is.

Measured once, in a worker of its own, and kept for as long as what it depends on stays the same:
in the user's cache, where another agent of this machine finds it, and in the state folder, which
outlives a container. The cache comes first: agents of one machine plan with one measurement.
"""

import logging
import mmap
import os
import platform
import sys
from contextlib import suppress
from math import log2
from pathlib import Path
from typing import Annotated

import msgspec

from edge_agent.probe.arithmetic import compute_bytes, fast_bf16, processor
from edge_agent.runtimes import LLAMA, ONNX, TORCH
from wire.messages.plan import SizeBytes
from wire.version import LORIKEET_VERSION

log = logging.getLogger(__name__)

#: Hidden sizes of the two models that steps are measured on.
NARROW, WIDE = 256, 1024
#: The agent without its worker, with a job on [28 measured; 24 to 27 for a training of its own].
SUPERVISOR_BYTES = 28_000_000
#: A worker with torch, before its first task; 199 MB was the least ever seen. Below it, starting
#: one would only break the limit that we were given.
LEAST_RUNTIME_BYTES = 190_000_000
#: What each further part of a calibration needs at most, supervisor included [measured].
WIDE_NEEDS_BYTES = 400_000_000
FULL_NEEDS_BYTES = 520_000_000
#: What a first step leaves at width `WIDE` where there was no room to measure it.
ASSUMED_KERNEL_BYTES = 36_000_000
#: What transformers and PEFT weigh where there was no room to measure it [measured here].
FULL_EXTRA_BYTES = 130_000_000
#: And a worker with an engine [57 to 60 measured with llama.cpp].
LEAST_ENGINE_BYTES = 50_000_000
_PARTS = ("torch", "transformers", "peft", "tokenizers", "numpy")
#: What an engine's worker imports, by runtime.
_ENGINE_PARTS = {
    LLAMA: ("llama_cpp_python", "tokenizers", "numpy"),
    ONNX: ("onnxruntime", "tokenizers", "numpy"),
}
#: A kept calibration has one thousand bytes; of a longer file no more is read, which breaks it.
_MAX_FILE_BYTES = 65_536

PerSecond = Annotated[float, msgspec.Meta(gt=0)]  # times are divided by it


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the block-wise engine is in one type of number."""

    flops_per_s: PerSecond
    made_bytes_per_s: PerSecond  # of activations: fresh memory has to be had from the system first


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker found out about itself.

    ``bf16`` and ``f32`` name types of numbers; the former is missing where it is not fast.
    """

    lean_bytes: SizeBytes  # resident after importing torch and a step on a few numbers
    full_bytes: SizeBytes | None = None  # with transformers and PEFT; None: there was no room
    wide: bool = False  # whether there was room for the wide model
    kernel_bytes: dict[
        str, SizeBytes
    ] = {}  # by type: what the first steps on a model of width WIDE leave
    speeds: dict[str, Speed] = {}  # by type
    expand_per_s: dict[str, PerSecond] = {}  # weights a second, by kind of a GGUF file


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner knows of a device.

    Attributes:
        key: what it depends on.
        measured: by a worker; None on a device that can't even start one.
        runtime: that a worker computes with, of `edge_agent.runtimes`.
    """

    key: dict[str, str] = {}
    measured: Measured | None = None
    runtime: str = TORCH

    @property
    def bf16(self) -> bool:
        """Whether bfloat16 is computed with where the file has no more."""
        return fast_bf16() if self.measured is None else "bf16" in self.measured.speeds

    def compute_bytes(self, stored_bytes: float) -> int:
        """Return the bytes of a number in memory.

        Args:
            stored_bytes: of a parameter in the base's file.
        """
        return compute_bytes(round(stored_bytes), bf16=self.bf16)

    def runtime_bytes(self, *, full: bool) -> int:
        """Return the resident memory of supervisor and worker before any task.

        Args:
            full: with transformers and PEFT.
        """
        measured = self.measured
        least = least_runtime_bytes(self.runtime)
        lean_bytes = least if measured is None else measured.lean_bytes
        if not full:
            return SUPERVISOR_BYTES + lean_bytes
        full_bytes = measured.full_bytes if measured is not None else None
        return SUPERVISOR_BYTES + (full_bytes or lean_bytes + FULL_EXTRA_BYTES)

    def kernel_bytes(self, number_bytes: int, hidden: int) -> int:
        """Return what the libraries keep after the first step: compiled kernels, packed copies.

        Args:
            number_bytes: of a number in memory.
            hidden: size of the model.
        """
        known = {} if self.measured is None else self.measured.kernel_bytes
        wide_bytes = known.get({2: "bf16", 4: "f32"}[number_bytes], ASSUMED_KERNEL_BYTES)
        return int(wide_bytes * kernel_share(hidden))


def kernel_share(hidden: int) -> float:
    """Return how much the libraries keep for a model, as a share of what they do for a wide one.

    Each shape of matrix has kernels of its own, larger ones more of them, up to some width: in
    bfloat16 (oneDNN, and MKL for attention) 34 MB at 256, 38 at 1024, about as much at 2048; in
    float32 (MKL) 12 to 25, depending on the threads. [torch 2.13, x86-64 with AMX]

    Args:
        hidden: size of the model.
    """
    return 1.0 + 0.1 * min(log2(max(hidden, 64) / WIDE), 0.0)


def least_runtime_bytes(runtime: str) -> int:
    """Return below which limit a worker would only break it.

    Args:
        runtime: of `edge_agent.runtimes`.
    """
    return LEAST_RUNTIME_BYTES if runtime == TORCH else LEAST_ENGINE_BYTES


def present_key(threads: int, runtime: str = TORCH) -> dict[str, str]:
    """Return what a calibration depends on, as it is now.

    Args:
        threads: for arithmetic.
        runtime: of `edge_agent.runtimes`.
    """
    versions = {name: _version(name) for name in _ENGINE_PARTS.get(runtime, _PARTS)}
    return {
        "lorikeet": LORIKEET_VERSION,
        "python": platform.python_version(),
        **versions,
        "machine": platform.machine(),
        "processor": processor(),
        "bf16": str(fast_bf16()),
        "threads": str(threads),
        "page_bytes": str(mmap.PAGESIZE),
    }


def load_calibration(folder: Path, threads: int, runtime: str = TORCH) -> Calibration | None:
    """Return what was measured before, None if it is missing, stale or broken.

    Args:
        folder: the state folder.
        threads: for arithmetic.
        runtime: of `edge_agent.runtimes`.
    """
    for file in _files(folder, threads, runtime):
        try:
            with file.open("rb") as content:
                data = content.read(_MAX_FILE_BYTES)
            found = msgspec.json.decode(data, type=Calibration)
        except FileNotFoundError:
            continue
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.warning("%s is passed over: %s", file, error)
            continue
        if found.key == present_key(threads, runtime) and found.runtime == runtime:
            return found
    return None


def save_calibration(folder: Path, threads: int, calibration: Calibration) -> None:
    """Keep a calibration; a disk that is full only costs another one."""
    for file in _files(folder, threads, calibration.runtime):
        # Agents of one machine may write at once.
        part = file.with_suffix(f".{os.getpid()}.part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=1))
            part.replace(file)
        except OSError as error:
            log.warning("%s can't be written: %s", file, error.strerror or error)
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _files(folder: Path, threads: int, runtime: str) -> list[Path]:
    places = [folder]
    with suppress(RuntimeError):  # a container's user may have no home at all
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        places.insert(0, cache / "lorikeet")
    engine = "" if runtime == TORCH else f"{runtime}-"
    return [place / f"calibration-{engine}{threads}.json" for place in places]


def _version(name: str) -> str:
    """Return the version of what is installed; importlib.metadata would weigh 3 MB."""
    for folder in filter(None, sys.path):
        for found in Path(folder).glob(f"{name}-*.dist-info"):
            return found.name.removeprefix(f"{name}-").removesuffix(".dist-info")
    return "none"
