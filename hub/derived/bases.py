"""Derived bases: asked for by devices, made one after the other, kept beside the hub's state.

A folder's name says of which base and of which kind it is; its manifest is written last, so that
what was cut off by a restart is made again.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from hub.api.control import DerivedBase
from hub.derived.make import Made, Order
from hub.errors import ConflictError, HubError, NotFoundError
from hub.models import BaseModel, ModelManifest
from wire.derived import DERIVED

log = logging.getLogger(__name__)

#: A disk that was full, a process that was killed: whoever asks later than this gets another try.
RETRY_S = 60.0
_NICENESS = 10  # rounds come first
_MANIFEST = ".manifest"


class DerivedBases:
    """Makes and finds derived bases. Safe for several threads.

    Args:
        folder: where they are kept.
        kinds: that are made, of `wire.derived.DERIVED`, the preferred one first.
    """

    def __init__(self, folder: Path, kinds: Sequence[str]) -> None:
        self._folder = folder
        self.kinds = list(kinds)
        self._lock = threading.Lock()
        self._one_at_a_time = threading.Lock()
        self._making: set[tuple[str, str]] = set()
        self._failed: dict[tuple[str, str], tuple[Made, float]] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._known: dict[str, tuple[Path, ModelManifest]] = {}  # by digest of the manifest
        self._tidy()

    def find(self, base: BaseModel, kind: str) -> DerivedBase:
        """Return a base's derived files, or how far they are; whoever asks first begins it.

        Args:
            base: that a job has.
            kind: what is wanted.

        Raises:
            NotFoundError: such files aren't made here.
            ConflictError: they can't be made of this base.
            HubError: they could not be made this time.
        """
        if kind not in self.kinds:
            made = f"made here are {', '.join(self.kinds)}" if self.kinds else "none are made here"
            raise NotFoundError(f"there is no {kind[:40]!r} of a base; {made} (models.derived).")
        key = (base.digest, kind)
        with self._lock:
            ready = self._ready(base, kind)  # it may have been finished just now
            if ready is not None:
                return ready
            if key in self._making:
                return self._progress(base, kind)
            self._check_failure(key)
            self._making.add(key)
        threading.Thread(target=self._make, args=(base, kind), daemon=True).start()
        return self._progress(base, kind)

    def kinds_of(self, digest: str) -> list[str]:
        """Return the kinds that are made of a base: all, less those that turned out not to be.

        Args:
            digest: of the base.
        """
        with self._lock:
            failed = {
                kind
                for (base, kind), (made, _) in self._failed.items()
                if base == digest and made.reason
            }
        return [kind for kind in self.kinds if kind not in failed]

    def keep(self, digests: Collection[str]) -> None:
        """Remove what was made of other bases; called while nothing is made.

        Args:
            digests: of bases that jobs have.
        """
        for made, (folder, _) in list(self._known.items()):
            base = folder.name.partition("-")[0]
            if base not in digests:
                log.info("%s is removed: no job has the base %s", folder.name, base[:12])
                del self._known[made]
                self._record(folder).unlink(missing_ok=True)  # first: see `_tidy`
                shutil.rmtree(folder, ignore_errors=True)

    def manifest(self, digest: str) -> bytes | None:
        """Return a derived base's manifest by its digest; None: there is none."""
        known = self._known.get(digest)
        return None if known is None else known[1].encode()

    def path_of(self, sha256: str) -> Path | None:
        """Return a file of a derived base by its content; None: there is none."""
        for folder, manifest in list(self._known.values()):
            for file in manifest.files:
                if file.sha256 == sha256:
                    return folder / file.path
        return None

    def close(self) -> None:
        """End what is being made; it is begun again when somebody asks again."""
        with self._lock:
            self._closed = True
            child = self._child
        if child is not None:
            child.kill()
            child.wait()

    # What is there

    def _tidy(self) -> None:
        """Take up what is whole, remove the rest."""
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if path.is_dir() and not self._record(path).is_file():
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir():
                self._take_up(path)

    def _take_up(self, folder: Path) -> None:
        try:
            data = self._record(folder).read_bytes()
            manifest = msgspec.json.decode(data, type=ModelManifest)
            whole = all(
                (folder / file.path).stat().st_size == file.size_bytes for file in manifest.files
            )
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s is made again: %s", folder, error)
            whole = False
        if not whole:
            shutil.rmtree(folder, ignore_errors=True)
            self._record(folder).unlink(missing_ok=True)
            return
        self._known[hashlib.sha256(data).hexdigest()] = (folder, manifest)

    def _ready(self, base: BaseModel, kind: str) -> DerivedBase | None:
        folder = self._place(base.digest, kind)
        for digest, (place, manifest) in list(self._known.items()):
            if place == folder:
                size_bytes = sum(file.size_bytes for file in manifest.files)
                return DerivedBase(
                    state="ready", digest=digest, done_bytes=size_bytes, total_bytes=size_bytes
                )
        return None

    def _place(self, digest: str, kind: str) -> Path:
        return self._folder / f"{digest}-{kind}"

    @staticmethod
    def _record(folder: Path) -> Path:
        return folder.with_name(folder.name + _MANIFEST)

    # Making

    def _check_failure(self, key: tuple[str, str]) -> None:
        found = self._failed.get(key)
        if found is None:
            return
        made, at = found
        if made.reason:
            raise ConflictError(f"{key[1]} can't be made of this base: {made.reason}")
        if time.monotonic() - at < RETRY_S:
            raise HubError(f"{key[1]} could not be made: {made.failure}; it is tried again later.")
        del self._failed[key]

    def _progress(self, base: BaseModel, kind: str) -> DerivedBase:
        """Return how many bytes there are of those that are expected."""
        total = int(base.shape.parameters * DERIVED[kind].bits / 8)
        draft = self._draft(base.digest, kind)
        done = 0
        with contextlib.suppress(FileNotFoundError):  # it is written meanwhile, or taken away
            done = sum(path.stat().st_size for path in draft.iterdir())
        return DerivedBase(state="making", done_bytes=min(done, total), total_bytes=total)

    def _draft(self, digest: str, kind: str) -> Path:
        return self._folder / f"{digest}-{kind}.part"

    def _make(self, base: BaseModel, kind: str) -> None:
        key = (base.digest, kind)
        began = time.monotonic()
        with self._one_at_a_time:
            try:
                made = self._run(base, kind)
            except OSError as error:
                made = Made(failure=f"{error.strerror or error}")
            except Exception as error:  # else it would be "making" for good
                log.exception("%s of %s was not made", kind, base.name)
                made = Made(failure=f"{type(error).__name__}: {error}")
        with self._lock:
            self._making.discard(key)
            if made.manifest is None:
                self._failed[key] = (made, time.monotonic())
        if made.manifest is None:
            log.warning("%s of %s: %s", kind, base.name, made.reason or made.failure)
            return
        log.info("%s of %s was made in %.1f s", kind, base.name, time.monotonic() - began)

    def _run(self, base: BaseModel, kind: str) -> Made:
        draft, place = self._draft(base.digest, kind), self._place(base.digest, kind)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        order = Order(
            kind=kind,
            folder=str(base.folder),
            files=[file.path for file in base.manifest.files],
            digest=base.digest,
            out=str(draft),
        )
        made = self._child_s(order)
        if made.manifest is None:
            shutil.rmtree(draft, ignore_errors=True)
            return made
        data = made.manifest.encode()
        shutil.rmtree(place, ignore_errors=True)
        draft.replace(place)
        record = self._record(place)
        part = record.with_name(record.name + ".part")
        part.write_bytes(data)
        part.replace(record)
        self._known[hashlib.sha256(data).hexdigest()] = (place, made.manifest)
        return made

    def _child_s(self, order: Order) -> Made:
        """Return what a process of its own made."""
        with self._lock:
            if self._closed:
                return Made(failure="the hub is ending")
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "hub.derived.make",
                    msgspec.json.encode(order).decode(),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
            self._child = child
        try:
            os.setpriority(os.PRIO_PROCESS, child.pid, _NICENESS)
        except OSError:
            log.debug("the process has ended already")
        # Its input stays open for as long as this process lives.
        answer = child.stdout.read() if child.stdout is not None else b""
        code = child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        with self._lock:
            self._child = None
        try:
            return msgspec.json.decode(answer, type=Made)
        except msgspec.DecodeError:
            return Made(failure=f"its process ended with code {code}")
