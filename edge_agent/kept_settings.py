"""The settings an agent was last started with, for who looks at its state folder later."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_agent.task_run import Settings

FILE = "settings.json"


def keep_settings(settings: Settings) -> None:
    """Write them into the state folder, readable by this user alone: a URL may hold a password."""
    file = Path(settings.state_folder) / FILE
    draft = file.with_suffix(".part")
    with suppress(OSError):
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(msgspec.json.format(msgspec.json.encode(settings)))
        draft.replace(file)


def kept_settings(folder: Path) -> Settings | None:
    """Return what was kept, None if there is nothing that can be read."""
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=Settings)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
