"""What a check is given, and what it says."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from edge_agent.task_run import Settings

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: how it is, and what to do about it.

    ``warn``: the agent works, but not as well or not for long. ``fail``: it can't do its work.
    """

    check: str
    level: Level
    found: str
    todo: str = ""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The device that is looked at.

    Attributes:
        folder: its state folder.
        settings: of its agent; None where it never ran and nothing was said.
        root: where ``proc`` and ``sys`` are; another folder in tests.
        now: Unix time.
    """

    folder: Path
    settings: Settings | None
    root: Path
    now: float


Check = Callable[[Subject], list[Finding]]


def ok(check: str, found: str) -> Finding:
    """Return that all is well."""
    return Finding(check=check, level="ok", found=found)


def warn(check: str, found: str, todo: str) -> Finding:
    """Return what is not as it should be."""
    return Finding(check=check, level="warn", found=found, todo=todo)


def fail(check: str, found: str, todo: str) -> Finding:
    """Return what keeps the agent from its work."""
    return Finding(check=check, level="fail", found=found, todo=todo)
