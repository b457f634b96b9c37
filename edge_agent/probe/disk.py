"""The room where the agent keeps its files."""

import os
from pathlib import Path

import msgspec

from edge_agent.probe.reading import UnreadableError


class Disk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The file system of the state folder."""

    folder: str
    free_bytes: int | None  # for us; root may have more
    total_bytes: int | None
    missing: dict[str, str] = {}


def disk(folder: Path) -> Disk:
    """Return the room of the file system that a folder is on, or will be on once it is made."""
    try:
        found = _statvfs(folder)
    except UnreadableError as error:
        missing = {"free_bytes": str(error), "total_bytes": str(error)}
        return Disk(folder=str(folder), free_bytes=None, total_bytes=None, missing=missing)
    return Disk(
        folder=str(folder),
        free_bytes=found.f_bavail * found.f_frsize,
        total_bytes=found.f_blocks * found.f_frsize,
    )


def _statvfs(folder: Path) -> os.statvfs_result:
    absolute = folder.absolute()
    for place in (absolute, *absolute.parents):
        try:
            return os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UnreadableError(f"{place} can't be read: {error.strerror}") from error
    raise UnreadableError(f"{folder}: no folder above it exists")
