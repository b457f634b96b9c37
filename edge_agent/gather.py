"""Which blobs of which adapters a device wants, and where they are once they came."""

import logging
import time

from edge_agent.collect import Collector
from edge_agent.jobs import KnownJobs
from wire.blobs import BlobStore
from wire.errors import WireError
from wire.manifest import AdapterManifest
from wire.messages import AdapterRef

log = logging.getLogger(__name__)


class Adapters:
    """The adapters that this device works with.

    Args:
        blobs: where they lie.
        collector: gathers what is missing.
        jobs: whose newest adapters are wanted as soon as they are announced.
    """

    def __init__(self, blobs: BlobStore, collector: Collector, jobs: KnownJobs) -> None:
        self._blobs = blobs
        self._collector = collector
        self._jobs = jobs

    def files(self, reference: AdapterRef) -> dict[str, str] | None:
        """Return an adapter's files by sha256, or None while some are still under way."""
        now = time.monotonic()
        if not self._collector.want(reference.sha256, reference.size_bytes, now):
            return None
        manifest = self._manifest(reference.sha256)
        if manifest is None:
            return None
        here = [self._collector.want(p.sha256, p.size_bytes, now) for p in manifest.parts]
        if not all(here):
            return None
        return {part.sha256: str(self._blobs.path(part.sha256)) for part in manifest.parts}

    def refresh(self, current: AdapterRef | None, keep: set[str]) -> None:
        """Gather the newest adapter of each job as it is broadcast; let older ones go.

        Args:
            current: of the running task.
            keep: other blobs that are still needed.
        """
        now = time.monotonic()
        wanted: dict[str, int] = {}
        for reference in [*self._jobs.adapters(), *([current] if current else [])]:
            wanted[reference.sha256] = reference.size_bytes
            manifest = self._manifest(reference.sha256)
            for part in manifest.parts if manifest else []:
                wanted[part.sha256] = part.size_bytes
        self._collector.keep_only(set(wanted))
        for sha256 in self._blobs.all():
            if sha256 not in wanted and sha256 not in keep:
                self._blobs.delete(sha256)
        for sha256, size_bytes in wanted.items():
            self._collector.want(sha256, size_bytes, now)

    def _manifest(self, sha256: str) -> AdapterManifest | None:
        path = self._blobs.path(sha256)
        if path is None:
            return None
        try:
            return AdapterManifest.decode(path.read_bytes())
        except WireError as error:
            log.warning("adapter manifest %s can't be used: %s", sha256[:12], error)
            return None
