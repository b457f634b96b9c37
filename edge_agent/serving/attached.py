"""What a running agent has for its server: looked for now and then, read when it is new."""

import tempfile
from pathlib import Path

from edge_agent.errors import AgentError, UsageError
from edge_agent.inference.contract import Adapter
from edge_agent.inference.tasks import adapter_of
from edge_agent.protocol import Following
from edge_agent.serving_state import FILE, ServedJob, ServingState, read_state
from edge_agent.training.following import follow_parts
from edge_agent.training.start import PackedStart
from wire.blobs import BlobStore
from wire.errors import WireError
from wire.manifest import AdapterManifest


class Attached:
    """An agent's state folder.

    Args:
        folder: of the agent.
        job: whose adapter is served; empty for the one that was announced last.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self.folder = folder
        self._wanted = job
        self._stamp: tuple[int, int] | None = None
        self._state: ServingState | None = None

    @property
    def http(self) -> str | None:
        """The hub's address, where it is known."""
        return None if self._state is None else self._state.http

    def look(self) -> ServedJob | None:
        """Return the job that is served, with the newest adapter that is here whole.

        Once a job was found, it stays the one.

        Raises:
            MalformedError: what the agent wrote is broken.
            UsageError: there are jobs, but not the one that was named.
        """
        try:
            known = (self.folder / FILE).stat()
        except OSError:
            return None
        stamp = (known.st_mtime_ns, known.st_ino)
        if stamp != self._stamp:
            self._state = read_state(self.folder)
            self._stamp = stamp
        jobs = self._state.jobs if self._state is not None else []
        if not jobs:
            return None
        found = next((one for one in jobs if self._wanted in ("", one.job)), None)
        if found is None:
            raise UsageError(
                f"--job is {self._wanted!r}; this device has {', '.join(one.job for one in jobs)}."
            )
        self._wanted = found.job
        return found

    def adapter(self, job: ServedJob) -> Adapter:
        """Return a job's adapter.

        Raises:
            AgentError: a file is gone or broken, or an engine has no place for such an adapter.
        """
        store = BlobStore(self.folder / "blobs")
        try:
            manifest = AdapterManifest.decode(self._path(store, job.manifest).read_bytes())
            with tempfile.TemporaryDirectory(prefix="serving-", dir=self.folder) as drafts:
                paths = follow_parts(
                    {part: self._path(store, part) for part in job.parts},
                    [
                        Following(
                            part=one.part,
                            held=str(self._path(store, one.held)),
                            differences=[str(self._path(store, sha)) for sha in one.differences],
                        )
                        for one in job.made
                        if store.path(one.part) is None
                    ],
                    manifest,
                    Path(drafts),
                    self.folder / "blobs",
                )
            for one in job.made:
                paths.setdefault(one.part, self._path(store, one.part))
            return adapter_of(PackedStart(manifest, paths, job.components), job.manifest)
        except (WireError, OSError) as error:
            raise AgentError(f"the adapter of job {job.job} can't be read: {error}") from error

    def _path(self, store: BlobStore, sha256: str) -> Path:
        path = store.path(sha256)
        if path is None:
            raise AgentError(f"blob {sha256[:12]} is gone; a newer adapter must have come.")
        return path
