"""Which blobs of which adapters a device wants, and where they are once they came."""

import logging
import time
from collections.abc import Iterable, Iterator

import msgspec

from edge_agent.catching_up import Way, way_to
from edge_agent.collect import Collector
from edge_agent.jobs import KnownJobs
from edge_agent.protocol import Following
from edge_agent.slices import SliceChoice
from wire.blobs import BlobStore
from wire.errors import WireError
from wire.manifest import AdapterManifest, AdapterPart, BlobName
from wire.messages import AdapterRef, BlobRef

log = logging.getLogger(__name__)

#: A manifest is far smaller; larger blobs aren't looked into when the agent starts.
_MANIFEST_BYTES = 256 * 1024
#: Manifests of one job that are kept: a way back is no longer.
_KEPT = 32
#: Half-received blobs that nobody wants are dropped after so long: after a restart, the jobs that
#: want them become known one by one.
STALE_S = 3600.0


class Gathered(msgspec.Struct, frozen=True):
    """An adapter's files by sha256, and those that the worker makes of differences first."""

    files: dict[str, str]
    following: list[Following]
    components: int  # of LoRA, that these parts hold


class Adapters:
    """The adapters that this device works with.

    What a job publishes after a round is mostly the difference to the adapter before; the worker
    makes the adapter of it when a task needs that, and so the last whole one is kept until then.

    Args:
        blobs: where they lie.
        collector: gathers what is missing.
        jobs: whose newest adapters are wanted as soon as they are announced.
        slices: says which parts of an adapter are wanted.
    """

    def __init__(
        self, blobs: BlobStore, collector: Collector, jobs: KnownJobs, slices: SliceChoice
    ) -> None:
        self._blobs = blobs
        self._collector = collector
        self._jobs = jobs
        self._slices = slices
        self._seen: dict[str, list[tuple[int, str]]] = {}  # by job: rounds and manifests, held
        self._announced: set[str] = set()  # manifests; a rolled-back one never was
        self._whole_only: set[str] = set()  # parts that differences did not come to
        for sha256 in blobs.all():
            if (blobs.size(sha256) or 0) <= _MANIFEST_BYTES:
                self._manifest(sha256, quiet=True)

    def files(self, reference: AdapterRef) -> Gathered | None:
        """Return where an adapter is, or None while some of it is still under way."""
        now = time.monotonic()
        if not self._collector.want(reference.sha256, reference.size_bytes, now):
            return None
        manifest = self._manifest(reference.sha256)
        if manifest is None:
            return None
        parts = self._parts(manifest)
        ways = [self._way(part.sha256, manifest) for part in parts]
        needed = [blob for way in ways for blob in way.blobs]
        here = [self._collector.want(one.sha256, one.size_bytes, now, one.hashes) for one in needed]
        if not all(here) or any(way.older is not None for way in ways):
            return None
        return Gathered(
            files={
                way.part.sha256: str(self._blobs.path(way.part.sha256))
                for way in ways
                if way.held is None
            },
            following=[self._following(way) for way in ways if way.held is not None],
            components=sum(manifest.rank_of(part) for part in parts if part.name == "lora"),
        )

    def distrust(self, reference: AdapterRef) -> None:
        """Gather an adapter whole from now on: its differences did not come to it."""
        manifest = self._manifest(reference.sha256)
        if manifest is not None:
            self._whole_only.update(part.sha256 for part in manifest.parts)

    def has(self, references: Iterable[BlobRef]) -> bool:
        """Return whether blobs are here, all of them; what is missing is asked for."""
        now = time.monotonic()
        here = [self._collector.want(one.sha256, one.size_bytes, now) for one in references]
        return all(here)

    def refresh(
        self, current: AdapterRef | None, keep: set[str], others: Iterable[BlobRef] = ()
    ) -> None:
        """Gather the newest adapter of each job as it is broadcast; let older ones go.

        Args:
            current: of the running task.
            keep: other blobs that are still needed.
            others: that are still to be gathered for the running task, or needed by it.
        """
        now = time.monotonic()
        references: list[AdapterRef | BlobRef] = [*self._jobs.adapters(), *others]
        references += [current] if current else []
        wanted = {one.sha256: (one.size_bytes, b"") for one in references}
        held: set[str] = set()
        for sha256 in list(wanted):
            manifest = self._manifest(sha256)
            for blob, base in self._closure(manifest) if manifest else ():
                wanted[blob.sha256] = blob.size_bytes, blob.hashes
                held.update(base)
        self._announced.update(one.sha256 for one in self._jobs.adapters())
        for job, seen in self._seen.items():
            del seen[:-_KEPT]
            if job in self._jobs.active:
                versions = [sha256 for _, sha256 in seen]
                held.update(versions)
                held.update(self._last_way(versions))
                # The next one follows this one, if what was evaluated since is rolled back.
                held.update(self._last_way([one for one in versions if one in self._announced]))
        self._announced &= held | set(wanted)
        self._collector.keep_only(set(wanted))
        for sha256 in self._blobs.all():
            if sha256 not in wanted and sha256 not in held and sha256 not in keep:
                self._blobs.delete(sha256)
        for sha256 in self._blobs.partials(STALE_S):
            if sha256 not in wanted:
                self._blobs.delete(sha256)
        for sha256, (size_bytes, hashes) in wanted.items():
            self._collector.want(sha256, size_bytes, now, hashes)

    def _last_way(self, versions: list[str]) -> set[str]:
        """Return what leads to the newest version to which all of a way is known.

        A newer manifest may be on its way, or one between: what leads to that one leads there, too.
        """
        for sha256 in reversed(versions):
            manifest = self._manifest(sha256)
            parts = self._parts(manifest) if manifest else []
            ways = [self._way(part.sha256, manifest) for part in parts] if manifest else []
            if any(way.held or self._holds(way.part.sha256) for way in ways):
                found = {blob.sha256 for way in ways for blob in way.blobs}
                return found | {way.held for way in ways if way.held is not None}
        return set()

    def _closure(self, manifest: AdapterManifest) -> Iterator[tuple[BlobName, list[str]]]:
        """Yield each blob that leads to an adapter, and the whole part that it is added to."""
        for part in self._parts(manifest):
            way = self._way(part.sha256, manifest)
            base = [way.held] if way.held is not None else []
            for blob in way.blobs:
                yield blob, base

    def _parts(self, manifest: AdapterManifest) -> list[AdapterPart]:
        def cost(part: AdapterPart) -> int:
            blobs = self._way(part.sha256, manifest).blobs
            return sum(one.size_bytes for one in blobs if not self._holds(one.sha256))

        return self._slices.parts(manifest, cost)

    def _way(self, sha256: str, manifest: AdapterManifest) -> Way:
        (part,) = (one for one in manifest.parts if one.sha256 == sha256)
        others = [held for _, held in self._seen.get(manifest.job, [])]
        if sha256 in self._whole_only or len(others) < 2:
            return Way(part)  # a newcomer need not walk back through all rounds
        return way_to(part, manifest, self._holds, self._manifest)

    def _holds(self, sha256: str) -> bool:
        return self._blobs.path(sha256) is not None

    def _following(self, way: Way) -> Following:
        paths = [str(self._blobs.path(one.sha256)) for one in way.differences]
        held = str(self._blobs.path(way.held or ""))
        return Following(part=way.part.sha256, held=held, differences=paths)

    def _manifest(self, sha256: str, *, quiet: bool = False) -> AdapterManifest | None:
        path = self._blobs.path(sha256)
        if path is None:
            return None
        try:
            manifest = AdapterManifest.decode(path.read_bytes())
        except WireError as error:
            if not quiet:
                log.warning("adapter manifest %s can't be used: %s", sha256[:12], error)
            return None
        seen = self._seen.setdefault(manifest.job, [])
        if (manifest.round, sha256) not in seen:
            seen.append((manifest.round, sha256))
            seen.sort()
        return manifest
