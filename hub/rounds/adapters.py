"""The global adapter's versions: packed, stored as blobs, and known by their manifest's sha256.

The hub's adapter *is* the decoded broadcast, so that hub and devices compute from the same
numbers. After a round that is what was before and a coded difference (`wire.frames`); the whole
stands beside it for devices that hold no older version. The last few versions are kept: an update
that comes late refers to one of them.
"""

import filecmp
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import BinaryIO

import msgspec

from hub.aggregation.alignment import aligned
from hub.aggregation.combine import Combined
from hub.aggregation.contract import Array, Factors, GlobalAdapter
from hub.aggregation.layers import Layers
from hub.aggregation.start import lora_start, prompt_start
from hub.export.peft_folder import export_peft
from hub.scheduling.codec_choice import choose_codec
from wire.blobs import BlobStore
from wire.chunk_hashes import list_of_file
from wire.codecs import by_name, catalogue
from wire.codecs.contract import Shape
from wire.errors import MalformedError
from wire.frames import follow
from wire.manifest import AdapterManifest, AdapterPart, BlobName, Difference
from wire.tensors import PackedFile, write_packed

#: Of whole adapters: devices compute from the decoded one, so its rounding is no error between us.
WHOLE_CODEC = "bf16"
#: Codecs that a job may name for whole adapters, too. Others would coarsen an adapter, not a step.
_WHOLE = ("bf16", "raw")


class Few(dict[str, Array]):
    """Tensors that are in memory anyway: a prompt."""

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: tensor.shape for name, tensor in self.items()}


Tensors = Layers | Few


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
            codec: of the job file.
        """
        parts = []
        if manifest.shapes:
            parts.append(self._first("lora", lora_start(manifest, seed), codec))
        if manifest.tokens:
            parts.append(self._first("prompt", Few(prompt_start(manifest, seed)), codec))
        return self._put(msgspec.structs.replace(manifest, parts=parts))

    def advance(
        self, before: str, start: GlobalAdapter, combined: Combined, round_: int, codec: str
    ) -> str:
        """Store the adapter after a round; a part that nobody trained stays as it is.

        Args:
            before: sha256 of the manifest of ``start``.
            start: the adapter that the updates were combined onto.
            combined: the parts' new values.
            round_: after which it is published.
            codec: of the job file.
        """
        parts = []
        for old in start.manifest.parts:
            prompt = None if combined.prompt is None else Few(combined.prompt)
            new = combined.lora if old.name == "lora" else prompt
            parts.append(old if new is None else self._next(start, old, new, round_, codec))
        previous = BlobName(sha256=before, size_bytes=self._path(before).stat().st_size)
        return self._put(
            msgspec.structs.replace(start.manifest, round=round_, parts=parts, previous=previous)
        )

    def load(self, sha256: str) -> GlobalAdapter:
        """Return a version by its manifest.

        Raises:
            MalformedError: a blob is gone or damaged.
        """
        manifest = self.manifest(sha256)
        paths = {part.name: self._path(part.sha256) for part in manifest.parts}
        return GlobalAdapter(manifest=manifest, lora=paths.get("lora"), prompt=paths.get("prompt"))

    def manifest(self, sha256: str) -> AdapterManifest:
        """Return a version's manifest.

        Raises:
            MalformedError: the blob is gone or damaged.
        """
        return AdapterManifest.decode(self._path(sha256).read_bytes())

    def files(self, sha256: str) -> dict[str, Path]:
        """Return what is broadcast for a version, by slice name: the manifest comes first.

        Of a part that changed since the version before, that is the difference.
        """
        files = {"manifest": self._path(sha256)}
        for part in self.manifest(sha256).parts:
            sent = part.sha256 if part.difference is None else part.difference.sha256
            files[f"{part.name}-{part.slice}"] = self._path(sent)
        return files

    def blobs(self, sha256: str) -> set[str]:
        """Return the digests of all blobs of a version, with those of a way to it.

        A device that was away goes that way where it is shorter than the whole: so many older
        manifests and differences are needed still.
        """
        found = {sha256, *(part.sha256 for part in self.manifest(sha256).parts)}
        whole_bytes = sum(part.size_bytes for part in self.manifest(sha256).parts)
        for older, manifest in self._back_from(sha256):
            changes = [part.difference for part in manifest.parts if part.difference is not None]
            whole_bytes -= sum(change.size_bytes for change in changes)
            if whole_bytes <= 0:
                break
            found |= {older, *(change.sha256 for change in changes)}
        return found

    def _back_from(self, sha256: str) -> Iterator[tuple[str, AdapterManifest]]:
        """Yield a version's manifest and those before it, as far as they are here."""
        at: str | None = sha256
        while at is not None and self._store.path(at) is not None:
            manifest = self.manifest(at)
            yield at, manifest
            at = manifest.previous.sha256 if manifest.previous else None

    def export(self, sha256: str, folder: Path, base: str) -> None:
        """Write a version as PEFT folders; see `hub.export.peft_folder`."""
        export_peft(self.load(sha256), folder, base)

    def _path(self, sha256: str) -> Path:
        path = self._store.path(sha256)
        if path is None:
            raise MalformedError(f"blob {sha256[:12]} is not in the store; was it deleted?")
        return path

    def _first(self, name: str, tensors: Tensors, codec: str) -> AdapterPart:
        """Store a part's start: entropy-coded, if the whole codec keeps no more than that."""
        draft = self._store.draft
        if codec != "raw":
            with draft(_packed(tensors, "entropy")) as packed:
                rounded, whole = (
                    _followed(packed, [], tensors.shapes),
                    _packed(tensors, WHOLE_CODEC),
                )
                with draft(rounded) as one, draft(whole) as other:
                    if filecmp.cmp(one, other, shallow=False):
                        return self._part(name, packed, "entropy")
        return self._whole(name, tensors, codec)

    def _whole(self, name: str, tensors: Tensors, codec: str) -> AdapterPart:
        """Store a part as a whole."""
        kind = codec if codec in _WHOLE else WHOLE_CODEC
        with self._store.draft(_packed(tensors, kind)) as packed:
            return self._part(name, packed, kind)

    def _next(
        self, start: GlobalAdapter, old: AdapterPart, new: Tensors, round_: int, codec: str
    ) -> AdapterPart:
        """Store what a part has become: as a difference, if that is the smaller way."""
        # In a new basis what changed is as large as the adapter: coding it would spoil it.
        if codec == "raw" or (isinstance(new, Layers) and new.basis == "new"):
            return self._whole(old.name, new, codec)
        expected = start.manifest.expected(old)
        path = self._path(old.sha256)
        kind = _difference_codec(codec, sum(prod(shape) for shape in expected.values()))
        with PackedFile.open(path, expected) as before:
            changed = _packed(_changes(new, before), kind, round_)
            with (
                self._store.draft(changed) as difference,
                self._store.draft(_followed(path, [difference], expected)) as whole,
            ):
                size_bytes = difference.stat().st_size
                if size_bytes < whole.stat().st_size:
                    named = Difference(
                        to=old.sha256,
                        sha256=self._store.put_file(difference),
                        size_bytes=size_bytes,
                        codec=kind,
                        hashes=list_of_file(difference),
                    )
                    part = self._part(old.name, whole, WHOLE_CODEC)
                    return msgspec.structs.replace(part, difference=named)
        return self._whole(old.name, new, codec)

    def _part(self, name: str, path: Path, codec: str) -> AdapterPart:
        """Store a file as a part."""
        return AdapterPart(
            name="lora" if name == "lora" else "prompt",
            sha256=self._store.put_file(path),
            size_bytes=path.stat().st_size,
            codec=codec,
            hashes=list_of_file(path),
        )

    def _put(self, manifest: AdapterManifest) -> str:
        return self._store.put(manifest.encode())


def _packed(tensors: Tensors, codec: str, seed: int = 0) -> Callable[[BinaryIO], None]:
    """Return what writes tensors, one at a time."""
    kind = by_name(codec)
    return lambda file: write_packed(file, tensors.shapes, tensors.__getitem__, kind, seed)


def _followed(
    whole: Path, differences: Sequence[Path], expected: Mapping[str, Shape]
) -> Callable[[BinaryIO], None]:
    return lambda file: follow(file, whole, differences, expected, WHOLE_CODEC)


def _difference_codec(codec: str, numbers: int) -> str:
    known = {name: kind.bits_per_parameter for name, kind in catalogue().items()}
    chosen, _ = choose_codec(codec, hub=known, device=known, parameters=numbers)
    return chosen or WHOLE_CODEC


def _changes(new: Tensors, before: PackedFile) -> Tensors:
    """Return what changed; factors that may be turned are, towards the ones before."""
    if not isinstance(new, Layers):
        return Few({name: new[name] - before.get(name) for name in before.names()})

    def changed(target: str) -> Factors:
        old = Factors(before.get(f"{target}.lora_A"), before.get(f"{target}.lora_B"))
        found = new.factors(target)
        if new.basis == "turned":
            found = aligned(found, old)
        return Factors(found.a - old.a, found.b - old.b)

    return Layers(new.shapes, changed)
