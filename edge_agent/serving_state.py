"""What a device's agent and its server tell one another, through the agent's state folder.

The agent writes ``serving.json``: which base and which adapter files each job has here. The server
holds a lock on ``user-waits`` while somebody waits for an answer; a lock goes with its process,
however that ends. Neither imports numpy.
"""

import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

from wire.errors import MalformedError

FILE = "serving.json"
LOCK = "user-waits"
_MAX_BYTES = 4 * 1024 * 1024


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an adapter that is made of an older one and differences; all named by sha256."""

    part: str
    held: str
    differences: list[str]


class ServedJob(msgspec.Struct, frozen=True, kw_only=True):
    """The newest adapter of a job that is here whole.

    Attributes:
        job: its name.
        round: in which it was announced.
        base: digest of the base.
        derived: files of the base that the hub makes for engines (`wire.derived`).
        manifest: of the adapter, a blob.
        parts: blobs that it is made of.
        made: parts that are yet to be made.
        components: of LoRA, that they hold.
    """

    job: str
    round: int
    base: str
    derived: list[str] = []
    manifest: str
    parts: list[str] = []
    made: list[Made] = []
    components: int = 0

    @property
    def blobs(self) -> set[str]:
        """All blobs that it takes."""
        changes = {one for made in self.made for one in (made.held, *made.differences)}
        return {self.manifest, *self.parts, *changes}


class ServingState(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to be served.

    Attributes:
        device: the agent's.
        http: the hub's address, where it is known.
        jobs: the one that was announced last comes first.
    """

    device: str
    http: str | None = None
    jobs: list[ServedJob] = []


def write_state(folder: Path, state: ServingState) -> None:
    """Replace the file in an agent's state folder.

    Raises:
        OSError: it can't be written.
    """
    partial = folder / f"{FILE}.partial"
    partial.write_bytes(msgspec.json.encode(state))
    partial.replace(folder / FILE)


def read_state(folder: Path) -> ServingState | None:
    """Return what an agent wrote, None if there is nothing.

    Raises:
        MalformedError: the file is broken.
    """
    try:
        with (folder / FILE).open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_BYTES), type=ServingState)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(
            f"{folder / FILE} can't be read: {error}. Remove it; the agent writes it again."
        ) from error


class UserLock:
    """The server's side of the lock.

    Args:
        folder: the agent's state folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = (folder / LOCK).open("ab")

    def tell(self, waits: bool) -> None:
        """Say whether a user waits; several servers may."""
        fcntl.flock(self._file, fcntl.LOCK_SH if waits else fcntl.LOCK_UN)

    def close(self) -> None:
        """Nobody waits any more."""
        self._file.close()


def user_waits(folder: Path) -> bool:
    """Return whether a server says that a user waits.

    Raises:
        OSError: the lock can't be looked at.
    """
    try:
        file = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)  # with the lock, if it was had
    return False
