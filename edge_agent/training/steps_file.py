"""What a task without backprop has done so far, on disk: a pause or a kill costs a minute."""

import hashlib
import json
import logging
import os
import time
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

#: How much work may be lost, in seconds.
INTERVAL_S = 60.0


class Taken(msgspec.Struct, kw_only=True):
    """The steps so far, and what the next one goes on from.

    ``level`` is the loss of each half of the present rows where the steps led, ``first`` the loss
    of the first rows before them, both in nats a token; ``looks`` is `Looks.state`.
    """

    steps: list[float] = []
    level: list[float] = []
    looks: dict[str, float] = {}
    first: float = 0.0
    tokens: int = 0
    seconds: float = 0.0


class _Stored(msgspec.Struct, kw_only=True):
    key: str
    taken: Taken


class StepsFile:
    """One task's steps in a file.

    Args:
        path: of the file.
        facts: whatever they depend on; steps that were saved under others are of no use.
    """

    def __init__(self, path: Path, *facts: str) -> None:
        self._path = path
        self._key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        self._saved_at = time.monotonic()

    def due(self) -> bool:
        """Whether what was saved last is old enough."""
        return time.monotonic() - self._saved_at >= INTERVAL_S

    def save(self, taken: Taken) -> None:
        """Replace the file; the earlier one stays if that fails."""
        self._saved_at = time.monotonic()
        unfinished = self._path.with_name(self._path.name + ".unfinished")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(msgspec.json.encode(_Stored(key=self._key, taken=taken)))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
        except OSError as error:
            log.warning("the steps so far can't be saved: %s", error.strerror or error)

    def load(self) -> Taken | None:
        """Return what was saved; None: nothing of this very task, or it is broken."""
        try:
            stored = msgspec.json.decode(self._path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("the saved steps are passed over: %s", error)
            return None
        if stored.key != self._key:
            log.info("the saved steps belong to another task")
            return None
        return stored.taken
