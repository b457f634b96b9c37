"""The GPUs that CUDA can use, found without importing anything that uses them.

``nvidia-smi`` answers where it is installed; the driver's files in ``/proc`` and ``/dev`` where it
isn't, as in many containers. A Jetson's GPU stands in no such list: the device tree names the chip.
"""

import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from edge_agent.probe.reading import (
    Gaps,
    UnreadableError,
    listing,
    read,
    read_or_none,
    whole,
)

_SMI = "nvidia-smi"
_SMI_FIELDS = ("name", "memory.total", "memory.free", "compute_cap", "driver_version")
#: The first question wakes a driver without persistence mode.
_SMI_TIMEOUT_S = 20.0
_MIB = 1024 * 1024
_DRIVER = "proc/driver/nvidia"
_COMPATIBLE = "proc/device-tree/compatible"
#: Compute capabilities of the chips (https://developer.nvidia.com/cuda-gpus).
_TEGRA = {
    "tegra210": "5.3",
    "tegra186": "6.2",
    "tegra194": "7.2",
    "tegra234": "8.7",
}
#: Device nodes without which CUDA can't reach a Jetson's GPU, as in a container without them.
_TEGRA_NODES = ("nvhost-gpu", "nvhost-ctrl-gpu", "nvgpu")
_SHARED = "it shares the system's memory, which is counted there"


class Gpu(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One GPU."""

    name: str | None
    integrated: bool | None  # it shares the system's memory: its own is never added
    memory_total_bytes: int | None
    memory_free_bytes: int | None
    compute_capability: str | None
    missing: dict[str, str] = {}


class Accelerator(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What CUDA has to work with."""

    cuda: bool | None
    gpus: list[Gpu] | None
    driver: str | None
    l4t: str | None  # NVIDIA's Linux for Jetsons
    missing: dict[str, str] = {}


def accelerator(root: Path = Path("/")) -> Accelerator:
    """Return the GPUs that CUDA can use.

    Args:
        root: where ``proc``, ``dev`` and ``etc`` are; another folder in tests.
    """
    gaps = Gaps()
    gpus = gaps.fill("gpus", lambda: _gpus(root))
    if gpus is None:
        gaps.reasons["cuda"] = gaps.reasons["gpus"]
    return Accelerator(
        cuda=None if gpus is None else bool(gpus),
        gpus=gpus,
        driver=gaps.fill("driver", lambda: _driver(root)),
        l4t=gaps.fill("l4t", lambda: l4t(root)),
        missing=gaps.reasons,
    )


def l4t(root: Path) -> str:
    """Return the version of NVIDIA's Linux for Jetsons, such as ``36.3.0``.

    Raises:
        UnreadableError: this is no Jetson, or the file has another form.
    """
    text = read(root, "etc/nv_tegra_release")
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    if found is None:
        raise UnreadableError(f"/etc/nv_tegra_release holds {text[:40]!r}, which is no release")
    return f"{found[1]}.{found[2]}"


def _gpus(root: Path) -> list[Gpu]:
    chip = _tegra_chip(root)
    try:
        return [_smi_gpu(line, chip) for line in _smi_lines()]
    except UnreadableError:
        pass
    nodes = listing(root, "dev")
    if chip is not None:
        return [_jetson_gpu(root, chip)] if any(node in nodes for node in _TEGRA_NODES) else []
    cards = [node for node in nodes if re.fullmatch(r"nvidia\d+", node)]
    names = _driver_names(root)
    return [_driver_gpu(names[i] if i < len(names) else None) for i in range(len(cards))]


def _tegra_chip(root: Path) -> str | None:
    """Return a Jetson's chip, such as ``tegra234``."""
    for name in (read_or_none(root, _COMPATIBLE) or "").split("\0"):
        vendor, _, chip = name.partition(",")
        if vendor == "nvidia" and re.fullmatch(r"tegra\d+", chip):
            return chip
    return None


def _smi_lines() -> list[list[str]]:
    if shutil.which(_SMI) is None:
        raise UnreadableError(f"{_SMI} is not on PATH")
    command = [_SMI, f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SMI_TIMEOUT_S, check=False, text=True
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise UnreadableError(f"{_SMI}: {type(error).__name__}") from error
    lines = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    found = [line for line in lines if len(line) == len(_SMI_FIELDS)]
    if done.returncode != 0 or not found:
        raise UnreadableError(f"{_SMI} ended with code {done.returncode}")
    return found


def _smi_gpu(cells: list[str], chip: str | None) -> Gpu:
    """Return a GPU; one that tells no memory has none of its own."""
    name, total, free, capability, _ = cells
    integrated = chip is not None or whole(total) is None
    reason = _SHARED if integrated else f"{_SMI} doesn't tell it"
    gaps = Gaps()
    return Gpu(
        name=name,
        integrated=integrated,
        memory_total_bytes=gaps.fill("memory_total_bytes", lambda: _mib(total, integrated, reason)),
        memory_free_bytes=gaps.fill("memory_free_bytes", lambda: _mib(free, integrated, reason)),
        compute_capability=gaps.fill("compute_capability", lambda: _capability(capability, chip)),
        missing=gaps.reasons,
    )


def _mib(text: str, integrated: bool, reason: str) -> int:
    size_mib = whole(text)
    if integrated or size_mib is None:
        raise UnreadableError(reason)
    return size_mib * _MIB


def _capability(text: str, chip: str | None) -> str:
    if re.fullmatch(r"\d+\.\d+", text):
        return text
    if chip in _TEGRA:
        return _TEGRA[chip]
    raise UnreadableError(f"neither {_SMI} nor the chip's name tells it")


def _jetson_gpu(root: Path, chip: str) -> Gpu:
    gaps = Gaps()
    board = read_or_none(root, "proc/device-tree/model")
    capability = gaps.fill("compute_capability", lambda: _capability("", chip))
    return Gpu(
        name=f"GPU of {board or chip}",
        integrated=True,
        memory_total_bytes=None,
        memory_free_bytes=None,
        compute_capability=capability,
        missing={"memory_total_bytes": _SHARED, "memory_free_bytes": _SHARED, **gaps.reasons},
    )


def _driver_names(root: Path) -> list[str]:
    """Return the cards' names as the driver tells them."""
    try:
        cards = listing(root, f"{_DRIVER}/gpus")
    except UnreadableError:
        return []
    found = []
    for card in cards:
        text = read_or_none(root, f"{_DRIVER}/gpus/{card}/information") or ""
        model = re.search(r"^Model:\s*(.+)$", text, re.M)
        found += [model[1].strip()] if model else []
    return found


def _driver_gpu(name: str | None) -> Gpu:
    reason = f"only {_SMI} tells it, and that is not there"
    fields = ("memory_total_bytes", "memory_free_bytes", "compute_capability", "integrated")
    missing = dict.fromkeys(fields, reason)
    if name is None:
        missing["name"] = f"/{_DRIVER}/gpus doesn't tell it"
    return Gpu(
        name=name,
        integrated=None,
        memory_total_bytes=None,
        memory_free_bytes=None,
        compute_capability=None,
        missing=missing,
    )


def _driver(root: Path) -> str:
    """Return the driver's version, such as ``550.54.14``."""
    text = read(root, f"{_DRIVER}/version")
    found = re.search(r"Kernel Module.*?\s{2,}(\d+(?:\.\d+)+)\s", text)
    if found is None:
        raise UnreadableError(f"/{_DRIVER}/version holds {text[:40]!r}, which is no version")
    return found[1]
