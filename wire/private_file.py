"""Files that only their owner may read: keys, tokens, certificates beside them."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path


def write_private(path: Path, content: bytes) -> None:
    """Write a file with mode 0600, whole or not at all; what was there before is replaced.

    Args:
        path: its folder is made, for the owner alone, where it is missing.
        content: all of it.
    """
    write_privately({path: content})


def write_privately(contents: Mapping[Path, bytes]) -> None:
    """Write several files as `write_private` does: none is replaced before all are on the disk.

    Args:
        contents: by path.
    """
    drafts: dict[Path, Path] = {}
    try:
        for path, content in contents.items():
            drafts[path] = _draft(path, content)
        for path, draft in drafts.items():
            draft.replace(path)
    except BaseException:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in contents}:
        _sync_folder(folder)


def _draft(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # The mode is given when the file is made: at no moment may others read it.
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            _keep_owner(number, path)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft


def _keep_owner(number: int, path: Path) -> None:
    """Let root renew a file that another user reads."""
    with suppress(OSError):
        before = path.stat()
        if before.st_uid != os.geteuid():
            os.fchown(number, before.st_uid, before.st_gid)


def _sync_folder(folder: Path) -> None:
    """Let the new name survive a loss of power, too."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
