"""A base model from the hub, file by file, by sha256 and resumable.

The digest names a small JSON document, ``{"files": [{"path", "sha256", "size_bytes"}, ...]}``,
which in turn names every file; so a hub, or someone on the way, can't slip in another model.
"""

import fcntl
import hashlib
import logging
import os
import random
import shutil
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec

from edge_agent.enrolment.identity import CA_VARIABLE
from edge_agent.errors import AgentError
from edge_agent.throttle import Throttle

log = logging.getLogger(__name__)

#: What a model folder may hold. Formats that can run code when read are not among them.
SUFFIXES = (".json", ".safetensors", ".txt", ".model", ".jinja", ".gguf", ".onnx", ".data")
#: Stands in a folder whose files are all there and verified; holds the manifest.
COMPLETE = "complete"

_MAX_MANIFEST_BYTES = 1024 * 1024
_TIMEOUT_S = 30.0
_ATTEMPTS = 5  # in a row without a byte
_FIRST_WAIT_S = 0.2
_LOCK_WAIT_S = 0.2

Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class FetchError(AgentError):
    """The base model could not be fetched; another try resumes where this one ended."""


class _File(msgspec.Struct, frozen=True):
    path: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    sha256: Sha256
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**42)]


class _Manifest(msgspec.Struct, frozen=True):
    files: Annotated[list[_File], msgspec.Meta(min_length=1, max_length=1024)]


def fetch(
    http: str,
    digest: str,
    folder: str,
    progress: Callable[[int, int], None],
    throttle: Throttle | None = None,
    *,
    check: Callable[[Path], None] | None = None,
) -> int:
    """Fetch a base model into a folder; files that are there already stay.

    One process at a time does: a server may want what the agent's worker fetches already.

    Args:
        http: the hub's address, like ``http://host:8080``.
        digest: sha256 of the model's manifest.
        folder: where the files go; `COMPLETE` appears in it last.
        progress: told how many of all bytes are there, a few times a file, and while another
            process fetches; what it raises ends the fetch.
        throttle: lets the bytes of the files pass.
        check: told the folder once all files are there; what it raises ends the fetch.

    Returns:
        Bytes that were downloaded.

    Raises:
        FetchError: the hub can't be reached or answers something else, or the disk is too small.
        DayUsedUpError: the throttle lets no more pass today.
    """
    throttle = throttle or Throttle()
    if not http.startswith(("http://", "https://")):
        raise FetchError(f"the hub's address is {http!r}; must begin with http:// or https://.")
    payload = _get_manifest(f"{http.rstrip('/')}/v1/models/{digest}", digest)
    files = _parse(payload)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    total = sum(file.size_bytes for file in files)
    with _alone(target, lambda: progress(0, total)) as waited:
        if waited and _holds(target, payload):
            progress(total, total)
            return len(payload)
        downloaded = _fill(target, files, http, progress, throttle)
        if check is not None:
            check(target)
        (target / COMPLETE).write_bytes(payload)
    return downloaded + len(payload)


def _fill(
    target: Path,
    files: list[_File],
    http: str,
    progress: Callable[[int, int], None],
    throttle: Throttle,
) -> int:
    """Download the files that aren't there; return the bytes downloaded."""
    total = sum(file.size_bytes for file in files)
    _check_disk(target, files)
    done = downloaded = 0
    for file in files:
        path = target / file.path
        if not _is(path, file):
            download = _Download(
                f"{http.rstrip('/')}/v1/blobs/{file.sha256}", target, file, throttle
            )
            base = done
            downloaded += download.run(lambda got, base=base: progress(base + got, total))  # type: ignore[misc]
            path.parent.mkdir(parents=True, exist_ok=True)
            download.partial.replace(path)
        done += file.size_bytes
        progress(done, total)
    shutil.rmtree(target / _Download.FOLDER, ignore_errors=True)
    return downloaded


@contextmanager
def _alone(target: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Keep other processes from fetching into a folder; yield whether one was waited for.

    The folder itself is locked, so that nothing is left in it.

    Args:
        target: the folder.
        waiting: called again and again while another process has it.
    """
    waited, folder = False, os.open(target, os.O_RDONLY)
    try:
        while not _locked(folder):
            waited = True
            waiting()
            threading.Event().wait(_LOCK_WAIT_S)
        yield waited
    finally:
        os.close(folder)  # with the lock


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without such locks, as some over a network
        log.debug("the folder can't be locked: %s", error)
    return True


def _holds(target: Path, payload: bytes) -> bool:
    """Return whether a folder was filled with what a manifest names."""
    try:
        return (target / COMPLETE).read_bytes() == payload
    except FileNotFoundError:
        return False


def changed_files(folder: Path) -> list[str] | None:
    """Return which files of a fetched model aren't what was fetched; all of it is read.

    Args:
        folder: named by the model's digest, with `COMPLETE` in it. What was derived of a base has a
            name of two parts, which says what it was made of; its manifest is taken as it is.

    Returns:
        None if the manifest itself isn't what its digest says.

    Raises:
        OSError: a file can't be read.
    """
    payload = (folder / COMPLETE).read_bytes()
    derived = "-" in folder.name
    if not derived and hashlib.sha256(payload).hexdigest() != folder.name:
        return None
    return [file.path for file in _parse(payload) if not _is(folder / file.path, file)]


class _Download:
    """One file on its way, kept under its hash so that another try goes on."""

    FOLDER = ".partial"

    def __init__(self, url: str, target: Path, file: _File, throttle: Throttle) -> None:
        self._url = url
        self._throttle = throttle
        self._file = file
        self._got = 0
        self.partial = target / self.FOLDER / file.sha256
        self.partial.parent.mkdir(exist_ok=True)

    def run(self, progress: Callable[[int], None]) -> int:
        """Download what is missing, verify the whole; return the bytes downloaded."""
        failures = 0
        reason = "no answer"
        while failures < _ATTEMPTS:
            before = self._got
            try:
                self._attempt(progress)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code in (404, 410):
                    raise FetchError(f"{self._url}: the hub has no such file.") from None
                reason = f"HTTP status {error.code}"
            except (OSError, HTTPException) as error:
                reason = f"{type(error).__name__}: {error}"
            if self._size() == self._file.size_bytes:
                break
            failures = failures + 1 if self._got == before else 0
            # Jitter: after an outage not all devices come back at once.
            threading.Event().wait(_FIRST_WAIT_S * 2**failures * random.random())  # noqa: S311
        else:
            raise FetchError(
                f"{self._url}: {_ATTEMPTS} attempts brought nothing more ({reason}). "
                f"{self._size()} of {self._file.size_bytes} bytes are kept for the next try."
            )
        self._verify()
        return self._got

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _attempt(self, progress: Callable[[int], None]) -> None:
        have = self._size()
        if have > self._file.size_bytes:
            self.partial.unlink()
            have = 0
        if have == self._file.size_bytes:
            self.partial.touch()
            return
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._url, headers={"Range": f"bytes={have}-"} if have else {}
        )
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=_TIMEOUT_S, context=trusted(self._url)
        ) as answer:
            if not _goes_on(answer, have):
                have = 0
            with self.partial.open("ab" if have else "wb") as file:
                while have < self._file.size_bytes:
                    piece = answer.read(self._throttle.next_piece(self._file.size_bytes - have))
                    if not piece:
                        return
                    file.write(piece)
                    have += len(piece)
                    self._got += len(piece)
                    progress(have)

    def _verify(self) -> None:
        if _sha256(self.partial) != self._file.sha256:
            self.partial.unlink()
            raise FetchError(
                f"{self._url}: what came has another sha256 and was thrown away. "
                "If it happens again, the hub's copy is damaged."
            )
        with self.partial.open("rb") as file:
            os.fsync(file.fileno())


def trusted(url: str) -> ssl.SSLContext | None:
    """Return whom to trust: the system's authorities and, once enrolled, the hub's."""
    if not url.startswith("https://"):
        return None
    context = ssl.create_default_context()
    own = os.environ.get(CA_VARIABLE)
    if own:
        context.load_verify_locations(cafile=own)
    return context


def _goes_on(answer: HTTPResponse, have: int) -> bool:
    """Return whether a response continues after the bytes that we have."""
    return answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(
        f"bytes {have}-"
    )


def _get_manifest(url: str, digest: str) -> bytes:
    try:
        with urllib.request.urlopen(  # noqa: S310 - see `fetch`
            url, timeout=_TIMEOUT_S, context=trusted(url)
        ) as answer:
            payload: bytes = answer.read(_MAX_MANIFEST_BYTES + 1)
    except (OSError, HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise FetchError(f"{url} can't be fetched ({type(error).__name__}: {error}).") from None
    if len(payload) > _MAX_MANIFEST_BYTES:
        raise FetchError(f"{url} has more than {_MAX_MANIFEST_BYTES} bytes; it is no manifest.")
    if hashlib.sha256(payload).hexdigest() != digest:
        raise FetchError(f"{url} is not what its digest says; it was thrown away.")
    return payload


def _parse(payload: bytes) -> list[_File]:
    try:
        files = msgspec.json.decode(payload, type=_Manifest).files
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FetchError(f"the model's manifest can't be read: {error}") from error
    for file in files:
        path = PurePosixPath(file.path)
        clean = not path.is_absolute() and str(path) == file.path and "\\" not in file.path
        if not clean or any(part.startswith(".") for part in path.parts) or "\0" in file.path:
            raise FetchError(
                f"the model's manifest names {file.path!r}; only plain relative paths are taken."
            )
        if path.suffix not in SUFFIXES:
            raise FetchError(
                f"the model's manifest names {file.path!r}; only files ending in "
                f"{', '.join(SUFFIXES)} are stored. Leave it out of the hub's model folder."
            )
    if len({file.path for file in files}) != len(files):
        raise FetchError("the model's manifest names a file twice.")
    return files


def _check_disk(target: Path, files: list[_File]) -> None:
    there = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    needed = sum(file.size_bytes for file in files) - there
    free = shutil.disk_usage(target).free
    if needed > free:
        raise FetchError(f"the model needs {needed} more bytes on disk; {free} are free.")


def _is(path: Path, file: _File) -> bool:
    return (
        path.is_file() and path.stat().st_size == file.size_bytes and _sha256(path) == file.sha256
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
