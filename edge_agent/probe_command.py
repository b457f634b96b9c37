"""``lorikeet-agent probe``: what this device has, as a table or as one JSON document."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.data_words import counted_words
from edge_agent.probe.accelerator import Accelerator, Gpu
from edge_agent.probe.battery import Battery
from edge_agent.probe.disk import Disk
from edge_agent.probe.group_memory import GroupMemory
from edge_agent.probe.link import Links
from edge_agent.probe.machine import Machine
from edge_agent.probe.memory import Memory
from edge_agent.probe.pressure import Pressure, Stall
from edge_agent.probe.profile import Profile, profile
from edge_agent.probe.thermal import Thermal
from edge_agent.probe.throttling import Throttling
from edge_agent.training.cleaning import USUAL
from edge_agent.training.data import count
from wire.work import Cleaning

#: What stands where there is nothing to compute with.
NO_RUNTIME = "none: install one of the extras train, llama and onnx"
#: What is told, its value or None, and what stands there instead.
Row = tuple[str, str | None, str]


def show_probe(
    state_folder: Path,
    memory_bytes: int | None,
    *,
    as_json: bool,
    data: Sequence[Path] = (),
    cleaning: Cleaning = USUAL,
) -> None:
    """Print what this device has.

    Args:
        state_folder: where the agent would keep its files.
        memory_bytes: ``--memory``.
        as_json: as one JSON document.
        data: text that is to be counted.
        cleaning: what of it is left out.

    Raises:
        DataError: the text can't be used.
    """
    found = profile(state_folder, asked_bytes=memory_bytes)
    if data:
        found = msgspec.structs.replace(found, data=count(data, cleaning))
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        print_profile(found)


def print_profile(found: Profile, width: int | None = None) -> None:
    """Print a table with a section for each part.

    Args:
        found: of `profile`.
        width: columns; by default those of the terminal.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for part, rows in _parts(found):
        for i, (name, value, reason) in enumerate(rows):
            told = Text(value) if value is not None else Text(f"– {reason}", style="dim")
            table.add_row("" if i else part, name, told)
        table.add_section()
    Console(width=width).print(table)


def _parts(found: Profile) -> Iterator[tuple[str, list[Row]]]:
    yield "machine", _machine(found.machine)
    yield "memory", _memory(found.memory)
    yield "pressure", _pressure(found.pressure)
    yield "accelerator", _accelerator(found.accelerator)
    yield "temperature", _thermal(found.thermal) + _throttling(found.throttling)
    yield "battery", _battery(found.battery)
    yield "disk", _disk(found.disk)
    yield "link", _links(found.link)
    yield "runtimes", [("installed", ", ".join(found.runtimes) or None, NO_RUNTIME)]
    if found.data is not None:
        yield "data", [("text", counted_words(found.data), "")]


def _row(section: Any, field: str, name: str, text: Callable[[Any], str] = str) -> Row:
    """Return a field's row.

    Args:
        section: a struct with ``missing``.
        field: of it.
        name: what the row says.
        text: turns a value into words.
    """
    value = getattr(section, field)
    return name, None if value is None else text(value), section.missing.get(field, "")


def _machine(machine: Machine) -> list[Row]:
    return [
        _row(machine, "model", "model"),
        _row(machine, "machine", "processor"),
        _row(machine, "kernel", "kernel"),
        _row(machine, "cores", "cores"),
        _row(machine, "allowed_cores", "by affinity"),
        _row(machine, "quota_cores", "by quota", lambda cores: f"{cores:g}"),
        _row(machine, "usable_cores", "usable", lambda cores: f"{cores:g}"),
    ]


def _memory(memory: Memory) -> list[Row]:
    return [
        _row(memory, "limit_bytes", "limit", lambda size: f"{_size(size)} ({memory.limit_reason})"),
        _row(memory, "free_bytes", "free", lambda size: f"{_size(size)} ({memory.free_reason})"),
        _row(memory, "total_bytes", "of the machine", _size),
        _row(memory, "available_bytes", "available", _size),
        *(_group(group) for group in memory.groups or []),
    ]


def _group(group: GroupMemory) -> Row:
    used = "use unknown" if group.used_bytes is None else f"{_size(group.used_bytes)} used"
    if group.reclaimable_bytes is not None:
        used += f", of that {_size(group.reclaimable_bytes)} file cache"
    return "group", f"{_size(group.limit_bytes)}, {used}: {group.folder}/{group.file}", ""


def _pressure(pressure: Pressure) -> list[Row]:
    return [
        _row(pressure, "memory", "memory", _stall),
        _row(pressure, "group_memory", "memory, group", _stall),
        _row(pressure, "cpu", "processors", _stall),
        _row(pressure, "io", "disks", _stall),
    ]


def _stall(stall: Stall) -> str:
    full = "" if stall.full_avg10 is None else f", all {stall.full_avg10:g} %"
    return f"some wait {stall.some_avg10:g} %{full} (last 10 s)"


def _accelerator(accelerator: Accelerator) -> list[Row]:
    rows = [_row(accelerator, "cuda", "CUDA", _yes)]
    rows += [("GPU", _gpu(gpu), "") for gpu in accelerator.gpus or []]
    if accelerator.cuda or accelerator.driver:
        rows.append(_row(accelerator, "driver", "driver"))
    if accelerator.l4t:
        rows.append(("L4T", accelerator.l4t, ""))
    return rows


def _gpu(gpu: Gpu) -> str:
    words = [gpu.name or "unknown model"]
    if gpu.integrated:
        words.append("shares the system's memory")
    elif gpu.memory_total_bytes is None:
        words.append("memory unknown")
    else:
        free = "?" if gpu.memory_free_bytes is None else _size(gpu.memory_free_bytes)
        words.append(f"{_size(gpu.memory_total_bytes)}, {free} free")
    if gpu.compute_capability is not None:
        words.append(f"compute capability {gpu.compute_capability}")
    return ", ".join(words)


def _thermal(thermal: Thermal) -> list[Row]:
    limit = "" if thermal.limit_c is None else f", limit {thermal.limit_c:g} °C"
    rows = [
        _row(
            thermal,
            "temperature_c",
            "nearest to limit",
            lambda value: f"{value:.1f} °C{limit} ({thermal.sensor})",
        )
    ]
    for sensor in thermal.sensors or []:
        limits = "".join(f", {kind} {value:g}" for kind, value in sensor.limits_c.items())
        value = sensor.temperature_c
        told = None if value is None else f"{value:.1f} °C{limits}"
        rows.append((sensor.name[:20], told, sensor.missing.get("temperature_c", "")))
    return rows


def _throttling(throttling: Throttling) -> list[Row]:
    rows = [_row(throttling, "throttled", "throttled", _yes)]
    if throttling.now:
        rows.append(("by", _list(throttling.now), ""))
    return [*rows, _row(throttling, "ever", "since the start", _list)]


def _battery(battery: Battery) -> list[Row]:
    reasons = set(battery.missing.values())
    if len(battery.missing) == 4 and len(reasons) == 1:
        return [("charge", None, reasons.pop())]
    return [
        _row(battery, "percent", "charge", lambda value: f"{value:g} %"),
        _row(battery, "on_mains", "on mains", _yes),
        _row(battery, "status", "status"),
        _row(battery, "temperature_c", "temperature", lambda value: f"{value:g} °C"),
    ]


def _disk(disk: Disk) -> list[Row]:
    return [
        ("folder", disk.folder, ""),
        _row(disk, "free_bytes", "free", _size),
        _row(disk, "total_bytes", "total", _size),
    ]


def _links(links: Links) -> list[Row]:
    others = [
        f"{one.name} ({one.kind}{'' if one.up else ', down'})"
        for one in links.interfaces or []
        if one.name != links.interface
    ]
    return [
        _row(links, "interface", "default route", lambda name: f"{name} ({links.kind or '?'})"),
        _row(links, "speed_mbit_s", "speed", lambda speed: f"{speed} Mbit/s"),
        _row(links, "metered", "metered", _yes),
        ("others", ", ".join(others) or "none", "")
        if links.interfaces is not None
        else ("others", None, links.missing["interfaces"]),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _list(words: list[str]) -> str:
    return ", ".join(words) or "nothing"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 10**10 else f"{size_bytes / 1e6:.0f} MB"
