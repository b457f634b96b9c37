"""Reading what a system tells of itself; every gap has its reason."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge_agent.errors import AgentError

T = TypeVar("T")

#: Nothing that the kernel tells is longer, but for the mounts of a host with thousands of them.
_MAX_BYTES = 1024 * 1024


class UnreadableError(AgentError):
    """A value can't be had. The message is the reason, fit to be shown."""


class Gaps:
    """Collects why values are missing, by the names of the fields that stay None."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def fill(self, field: str, read: Callable[[], T]) -> T | None:
        """Return what ``read`` returns, or None with the reason kept.

        Args:
            field: whose value it is.
            read: raises `UnreadableError` where there is none.
        """
        try:
            return read()
        except UnreadableError as error:
            self.reasons[field] = str(error)
            return None


def read(root: Path, name: str) -> str:
    """Return a file's text without the white space and NULs around it, at most 1 MiB of it.

    Args:
        root: where ``proc`` and ``sys`` are; another folder than ``/`` in tests.
        name: a path below it.

    Raises:
        UnreadableError: it is absent, denied, or the driver behind it fails.
    """
    try:
        with (root / name).open("rb") as file:
            data = file.read(_MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL in a name that a file gave us
        raise UnreadableError(f"/{name} {_why(error)}") from error
    return data.decode(errors="replace").strip("\0 \t\r\n")


def read_or_none(root: Path, name: str) -> str | None:
    """Return a file's text, or None where its absence says enough."""
    try:
        return read(root, name)
    except UnreadableError:
        return None


def read_number(root: Path, name: str) -> int:
    """Return the whole number that is a file's whole content.

    Raises:
        UnreadableError: it can't be read, or holds something else.
    """
    return number(read(root, name), f"/{name}")


def number(text: str, where: str) -> int:
    """Return a whole number.

    Args:
        text: what should be one.
        where: named in the error.

    Raises:
        UnreadableError: it is none.
    """
    found = whole(text)
    if found is None:
        raise UnreadableError(f"{where} holds {text[:40]!r}, which is no number")
    return found


def whole(text: str) -> int | None:
    """Return a decimal number of at most 20 digits; None for anything else, such as ``max``."""
    if len(text) > 20 or not text.removeprefix("-").isdecimal():
        return None
    return int(text)


def listing(root: Path, name: str, prefix: str = "") -> list[str]:
    """Return the names in a folder that begin with ``prefix``, ``zone2`` before ``zone10``.

    Raises:
        UnreadableError: the folder is absent or denied.
    """
    try:
        names = os.listdir(root / name)  # noqa: PTH208  (names alone are wanted)
    except (OSError, ValueError) as error:
        raise UnreadableError(f"/{name} {_why(error)}") from error
    return sorted((one for one in names if one.startswith(prefix)), key=lambda one: (len(one), one))


def _why(error: Exception) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "is not there"
        case PermissionError():
            return "may not be read by this user"
        case OSError() if error.strerror:
            return f"can't be read: {error.strerror.lower()}"
        case _:
            return f"can't be read: {error}"
