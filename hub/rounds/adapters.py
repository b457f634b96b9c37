"""The global adapter's versions: packed, stored as blobs, and known by their manifest's sha256.

The hub's adapter *is* the decoded broadcast, so that hub and devices compute from the same
numbers. After a round that is what was before and a coded difference (`wire.frames`); the whole
stands beside it for devices that hold no older version. The last few versions are kept: an update
that comes late refers to one of them.
"""

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path

import msgspec

from hub.aggregation.alignment import aligned
from hub.aggregation.bands import bands, slices
from hub.aggregation.combine import Combined
from hub.aggregation.contract import Array, Factors, GlobalAdapter, Slice
from hub.aggregation.layers import Layers
from hub.aggregation.slices import SlicedFactors
from hub.aggregation.start import lora_start, prompt_start
from hub.aggregation.vectors import Vectors
from hub.export.peft_folder import export_peft
from hub.rounds.packing import Cut, Tensors, cuts, followed, packed
from hub.scheduling.codec_choice import choose_codec
from wire.blobs import BlobStore
from wire.chunk_hashes import list_of_file
from wire.codecs import catalogue
from wire.codecs.contract import Shape
from wire.errors import MalformedError
from wire.manifest import AdapterManifest, AdapterPart, BlobName, Difference, PartName
from wire.tensors import reading

#: Of whole adapters: devices compute from the decoded one, so its rounding is no error between us.
WHOLE_CODEC = "bf16"
#: Codecs that a job may name for whole adapters, too. Others would coarsen an adapter, not a step.
_WHOLE = ("bf16", "raw")


class Adapters:
    """Packs, stores and reads the versions of all jobs' adapters.

    Args:
        store: the hub's blobs.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store

    def begin(
        self, manifest: AdapterManifest, seed: int, codec: str, *, ordered: bool = True
    ) -> str:
        """Store the adapter before round 1; return its manifest's sha256.

        Of weights that have not moved yet there is nothing to store.

        Args:
            manifest: without parts.
            seed: the job's.
            codec: of the job file.
            ordered: whether the job's rule puts components in order of importance; if not, LoRA
                comes in one slice, as leading ones alone would mean little.
        """
        parts = []
        if manifest.shapes:
            numbers = sum(shape.inputs + shape.outputs for shape in manifest.shapes.values())
            ranks = slices(manifest.rank, numbers) if ordered else [manifest.rank]
            parts += self._first("lora", lora_start(manifest, seed), ranks, codec)
        if manifest.tokens:
            prompt = Vectors(manifest.expected_prompt(), prompt_start(manifest, seed).__getitem__)
            parts += self._first("prompt", prompt, [], codec)
        return self._put(msgspec.structs.replace(manifest, parts=parts))

    def advance(
        self,
        before: str,
        start: GlobalAdapter,
        combined: Combined,
        round_: int,
        codec: str,
        *,
        mixed: bool,
    ) -> str:
        """Store the adapter after a round; a part that nobody trained stays as it is.

        Args:
            before: sha256 of the manifest of ``start``.
            start: the adapter that the updates were combined onto.
            combined: the parts' new values.
            round_: after which it is published.
            codec: of the job file.
            mixed: whether devices of lower rank take part, which start from leading components.
        """
        manifest = start.manifest
        vectors: dict[PartName, Tensors | None] = {
            "lora": combined.lora,
            "prompt": _vectors(manifest.expected_prompt(), combined.prompt),
            "full": _vectors(manifest.expected_full(), combined.full),
        }
        parts = []
        for name, new in vectors.items():
            olds = _parts(manifest, name)
            if new is None:
                parts += olds
            elif not olds:
                # All zeros before: the difference is the whole.
                parts += self._from_nothing(name, new, round_, codec)
            else:
                parts += self._next(start, olds, new, round_, codec, mixed=mixed)
        previous = BlobName(sha256=before, size_bytes=self._path(before).stat().st_size)
        return self._put(
            msgspec.structs.replace(manifest, round=round_, parts=parts, previous=previous)
        )

    def load(self, sha256: str) -> GlobalAdapter:
        """Return a version by its manifest.

        Raises:
            MalformedError: a blob is gone or damaged.
        """
        manifest = self.manifest(sha256)
        lora = [
            Slice(self._path(one.sha256), manifest.rank_of(one)) for one in manifest.lora_slices()
        ]
        prompt, full = (
            next((self._path(one.sha256) for one in _parts(manifest, name)), None)
            for name in ("prompt", "full")
        )
        return GlobalAdapter(manifest, tuple(lora), prompt, full)

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

    def wholes(self, sha256: str) -> dict[str, Path]:
        """Return the files of a version's parts, each as a whole, by their sha256."""
        return {part.sha256: self._path(part.sha256) for part in self.manifest(sha256).parts}

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

    def _first(
        self, name: PartName, tensors: Tensors, ranks: list[int], codec: str
    ) -> list[AdapterPart]:
        """Store a part's start: entropy-coded, if the whole codec keeps no more than that."""
        parts = cuts(tensors, ranks)
        if codec == "raw":
            return self._whole(name, tensors, parts, codec)
        with (
            packed(self._store, tensors, parts, "entropy") as small,
            packed(self._store, tensors, parts, WHOLE_CODEC) as whole,
        ):
            if not all(
                self._keeps(one, other, part)
                for one, other, part in zip(small, whole, parts, strict=True)
            ):
                return self._stored(name, whole, parts, WHOLE_CODEC)
            return self._stored(name, small, parts, "entropy")

    def _keeps(self, small: Path, whole: Path, part: Cut) -> bool:
        """Return whether the whole codec makes the same of both files."""
        with self._store.draft(followed(small, [], part.shapes, WHOLE_CODEC)) as rounded:
            return filecmp.cmp(rounded, whole, shallow=False)

    def _from_nothing(
        self, name: PartName, tensors: Tensors, round_: int, codec: str
    ) -> list[AdapterPart]:
        """Store a part of which nothing was there before, as coarsely as a difference."""
        parts = cuts(tensors, [])
        kind = _difference_codec(codec, sum(prod(shape) for shape in tensors.shapes.values()))
        with packed(self._store, tensors, parts, kind, round_) as places:
            return self._stored(name, places, parts, kind)

    def _whole(
        self, name: PartName, tensors: Tensors, parts: list[Cut], codec: str
    ) -> list[AdapterPart]:
        """Store a part as a whole."""
        kind = codec if codec in _WHOLE else WHOLE_CODEC
        with packed(self._store, tensors, parts, kind) as places:
            return self._stored(name, places, parts, kind)

    def _next(
        self,
        start: GlobalAdapter,
        olds: list[AdapterPart],
        new: Tensors,
        round_: int,
        codec: str,
        *,
        mixed: bool,
    ) -> list[AdapterPart]:
        """Store what a part has become: as a difference, where that is the smaller way."""
        name, manifest = olds[0].name, start.manifest
        ranks = [manifest.rank_of(old) for old in olds]
        parts = cuts(new, ranks)
        numbers = sum(prod(shape) for shape in new.shapes.values())
        kind = _difference_codec(codec, numbers)
        # In a new basis what changed is as large as the adapter: coding it would spoil it.
        if kind in _WHOLE or (isinstance(new, Layers) and new.basis == "new"):
            return self._whole(name, new, parts, kind)
        before = [self._path(old.sha256) for old in olds]
        with ExitStack() as stack:
            within = bands(manifest.rank) if mixed else ranks
            changes = _changes(new, start, before[0], within, stack)
            changed = stack.enter_context(packed(self._store, changes, parts, kind, round_))
            wholes = [
                stack.enter_context(
                    self._store.draft(followed(path, [change], part.shapes, WHOLE_CODEC))
                )
                for path, change, part in zip(before, changed, parts, strict=True)
            ]
            stored = self._stored(name, wholes, parts, WHOLE_CODEC)
            return [
                self._with_difference(part, old, change, kind)
                for part, old, change in zip(stored, olds, changed, strict=True)
            ]

    def _with_difference(
        self, part: AdapterPart, old: AdapterPart, path: Path, codec: str
    ) -> AdapterPart:
        """Name the difference that leads to a part, if it is smaller."""
        size_bytes = path.stat().st_size
        if size_bytes >= part.size_bytes:
            return part
        named = Difference(
            to=old.sha256,
            sha256=self._store.put_file(path),
            size_bytes=size_bytes,
            codec=codec,
            hashes=list_of_file(path),
        )
        return msgspec.structs.replace(part, difference=named)

    def _stored(
        self, name: PartName, paths: list[Path], parts: list[Cut], codec: str
    ) -> list[AdapterPart]:
        """Store files as a part's slices."""
        return [
            AdapterPart(
                name=name,
                sha256=self._store.put_file(path),
                size_bytes=path.stat().st_size,
                codec=codec,
                slice=index,
                rank=part.stop - part.first if len(parts) > 1 else 0,
                hashes=list_of_file(path),
            )
            for index, (path, part) in enumerate(zip(paths, parts, strict=True))
        ]

    def _put(self, manifest: AdapterManifest) -> str:
        return self._store.put(manifest.encode())


def _difference_codec(codec: str, numbers: int) -> str:
    """Return the job's codec; but what a biased one leaves out of an adapter would be gone."""
    found = catalogue()
    known = {name: kind.bits_per_parameter for name, kind in found.items() if not kind.biased}
    wanted = codec if codec in known else "auto"
    chosen, _ = choose_codec(wanted, hub=known, device=known, parameters=numbers)
    return chosen or WHOLE_CODEC


def _parts(manifest: AdapterManifest, name: PartName) -> list[AdapterPart]:
    """Return the parts of a name, LoRA's most important components first."""
    if name == "lora":
        return manifest.lora_slices()
    return [one for one in manifest.parts if one.name == name]


def _vectors(shapes: Mapping[str, Shape], tensors: Mapping[str, Array] | None) -> Vectors | None:
    return None if tensors is None else Vectors(shapes, tensors.__getitem__)


def _changes(
    new: Tensors, start: GlobalAdapter, old: Path, within: Sequence[int], stack: ExitStack
) -> Tensors:
    """Return what changed; factors that may be turned are, towards the ones before.

    They are turned ``within`` bands of so many components each; vectors are compared with the file
    ``old``. The files of the one before stay open as long as the stack.
    """
    manifest = start.manifest
    if not isinstance(new, Layers):
        was = stack.enter_context(reading(old, new.shapes))
        return Vectors(new.shapes, lambda name: new[name] - was(name))
    before = stack.enter_context(SlicedFactors(manifest, start.lora))

    def changed(target: str) -> Factors:
        old, found = before.factors(target), new.factors(target)
        if new.basis == "turned":
            found = aligned(found, old, within)
        return Factors(found.a - old.a, found.b - old.b)

    return Layers(new.shapes, changed)
