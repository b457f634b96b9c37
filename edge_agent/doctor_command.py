"""``lorikeet-agent doctor``: what keeps this device's agent from its work, and what to do."""

import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from edge_agent.doctor.agent import check_agent
from edge_agent.doctor.broker import check_broker
from edge_agent.doctor.certificate import check_certificate
from edge_agent.doctor.clock import check_clock
from edge_agent.doctor.condition import check_conditions
from edge_agent.doctor.contract import Check, Finding, Subject
from edge_agent.doctor.data import check_data
from edge_agent.doctor.model import check_models
from edge_agent.doctor.room import check_disk, check_memory
from edge_agent.doctor.runtime import check_runtime
from edge_agent.errors import AgentError
from edge_agent.task_run import Settings

#: In the order in which they are told: what others depend on comes first.
CHECKS: dict[str, Check] = {
    "agent": check_agent,
    "clock": check_clock,
    "certificate": check_certificate,
    "broker": check_broker,
    "disk": check_disk,
    "memory": check_memory,
    "runtime": check_runtime,
    "model": check_models,
    "data": check_data,
    "temperature": check_conditions,
}


class UnwellError(AgentError):
    """A check failed."""


def examine(
    folder: Path,
    settings: Settings | None,
    only: Collection[str] = (),
    root: Path = Path("/"),
) -> list[Finding]:
    """Return what all checks say, or some of them.

    Args:
        folder: the state folder.
        settings: of its agent, if they are known.
        only: names of `CHECKS`; empty for all.
        root: where ``proc`` and ``sys`` are; another folder in tests.
    """
    subject = Subject(folder=folder, settings=settings, root=root, now=time.time())
    names = [name for name in CHECKS if not only or name in only]
    return [finding for name in names for finding in CHECKS[name](subject)]


def show_doctor(
    folder: Path, settings: Settings | None, only: Collection[str], *, as_json: bool
) -> None:
    """Print what the checks say.

    Raises:
        UnwellError: one failed.
    """
    found = examine(folder, settings, only)
    failed = [one for one in found if one.level == "fail"]
    if as_json:
        document = {"ok": not failed, "findings": found}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
    else:
        print_findings(found)
    if failed:
        names = ", ".join(dict.fromkeys(one.check for one in failed))
        raise UnwellError(f"{len(failed)} of {len(found)} lines failed: {names}.")


def print_findings(found: Sequence[Finding], width: int | None = None) -> None:
    """Print a line for each finding, with what to do below it.

    Args:
        found: in the order in which they are shown.
        width: columns; by default those of the terminal.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    for overflow in ("ellipsis", "ellipsis", "fold"):
        table.add_column(no_wrap=overflow == "ellipsis", overflow=overflow)
    for one in found:
        told = Text(one.found)
        if one.todo:
            told.append(f"\n→ {one.todo}", style="dim")
        table.add_row(Text(one.level, style=styles[one.level]), one.check, told)
    Console(width=width).print(table)
