"""The global adapter's versions: packed, stored as blobs, and known by their manifest's sha256.

The hub's adapter *is* the decoded broadcast, so that hub and devices compute from the same
numbers. The last few versions are kept: an update that comes late refers to one of them.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from hub.aggregation.combine import Combined
from hub.aggregation.contract import Array, GlobalAdapter
from hub.aggregation.start import lora_start, prompt_start
from hub.export.peft_folder import export_peft
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.errors import MalformedError
from wire.manifest import AdapterManifest, AdapterPart
from wire.tensors import pack

log = logging.getLogger(__name__)


class Adapters:
    """Packs, stores and reads the versions of all jobs' adapters.

    Args:
        store: the hub's blobs.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    def begin(self, manifest: AdapterManifest, seed: int, codec: str) -> str:
        """Store the adapter before round 1; return its manifest's sha256.

        Args:
            manifest: without parts.
            seed: the job's.
            codec: in which it is broadcast.
        """
        parts = []
        if manifest.shapes:
            parts.append(self._part("lora", lora_start(manifest, seed), codec, seed))
        if manifest.tokens:
            parts.append(self._part("prompt", prompt_start(manifest, seed), codec, seed))
        return self._put(manifest, parts)

    def advance(self, start: GlobalAdapter, combined: Combined, round_: int, codec: str) -> str:
        """Store the adapter after a round; a part that nobody trained stays as it is."""
        parts = []
        for old in start.manifest.parts:
            new = combined.lora if old.name == "lora" else combined.prompt
            parts.append(old if new is None else self._part(old.name, new, codec, round_))
        return self._put(_replace(start.manifest, round=round_), parts)

    def load(self, sha256: str) -> GlobalAdapter:
        """Return a version by its manifest.

        Raises:
            MalformedError: a blob is gone or damaged.
        """
        manifest = AdapterManifest.decode(self._path(sha256).read_bytes())
        paths = {part.name: self._path(part.sha256) for part in manifest.parts}
        return GlobalAdapter(manifest=manifest, lora=paths.get("lora"), prompt=paths.get("prompt"))

    def files(self, sha256: str) -> dict[str, Path]:
        """Return what is broadcast for a version, by slice name: the manifest comes first."""
        manifest = AdapterManifest.decode(self._path(sha256).read_bytes())
        files = {"manifest": self._path(sha256)}
        for part in manifest.parts:
            files[f"{part.name}-{part.slice}"] = self._path(part.sha256)
        return files

    def blobs(self, sha256: str) -> set[str]:
        """Return the digests of all blobs of a version."""
        manifest = AdapterManifest.decode(self._path(sha256).read_bytes())
        return {sha256, *(part.sha256 for part in manifest.parts)}

    def export(self, sha256: str, folder: Path, base: str) -> None:
        """Write a version as PEFT folders; see `hub.export.peft_folder`."""
        export_peft(self.load(sha256), folder, base)

    def _path(self, sha256: str) -> Path:
        path = self._store.path(sha256)
        if path is None:
            raise MalformedError(f"blob {sha256[:12]} is not in the store; was it deleted?")
        return path

    def _part(self, name: str, tensors: Mapping[str, Array], codec: str, seed: int) -> AdapterPart:
        packed = pack(tensors, by_name(codec), seed)
        sha256 = self._store.put(packed)
        return AdapterPart(
            name="lora" if name == "lora" else "prompt",
            slice=0,
            sha256=sha256,
            size_bytes=len(packed),
            codec=codec,
        )

    def _put(self, manifest: AdapterManifest, parts: list[AdapterPart]) -> str:
        return self._store.put(_replace(manifest, parts=parts).encode())


def _replace(manifest: AdapterManifest, **changes: object) -> AdapterManifest:
    import msgspec

    return msgspec.structs.replace(manifest, **changes)
