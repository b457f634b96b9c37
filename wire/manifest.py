"""The manifest of a published adapter: which blobs hold it, and the shapes they must have.

It is a blob itself; `wire.messages.RoundAnnounce` and offers name it by its sha256. Each part may
come whole, or as the difference to the same part before (`wire.frames`): whoever holds that one, or
can get at it by older differences, needs no more.

Its bytes are JSON, as a zlib stream (RFC 1950): the names of targets repeat one another.
"""

import zlib
from collections.abc import Mapping
from math import prod
from typing import Annotated, Literal

import msgspec

from wire.chunk_hashes import check_list
from wire.errors import MalformedError, TooLargeError
from wire.topics import check_name

MAX_MANIFEST_BYTES = 1024 * 1024

Sha256 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Dimension = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
TargetName = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]{1,230}\Z")]
Rank = Annotated[int, msgspec.Meta(ge=0, le=4096)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=4096)]
Sizes = Annotated[tuple[Dimension, ...], msgspec.Meta(min_length=1, max_length=4)]


def _most_bytes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return more than any codec makes of tensors: raw takes 4 bytes a number, and a few before.

    The little that a manifest itself may take is allowed in any case.
    """
    return sum(5 * prod(shape) + 256 for shape in shapes.values()) + MAX_MANIFEST_BYTES


class TargetShape(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"inputs": "in", "outputs": "out"},
):
    """The sizes of a linear layer that LoRA factors are added to; its weight is (out, in)."""

    inputs: Dimension
    outputs: Dimension
    rank: Rank = 0  # of its factors, where that is less than the adapter's; 0: the adapter's


class PrefixShape(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a prefix in every layer: keys and values, each (heads, tokens, size)."""

    layers: Annotated[int, msgspec.Meta(ge=1, le=4096)]
    heads: Dimension  # of keys and values
    size: Dimension  # of a head


#: LoRA's factors, a soft prompt (or a prefix), or by how much all weights of the base have moved.
PartName = Literal["lora", "prompt", "full"]

BlobBytes = Annotated[int, msgspec.Meta(ge=1, le=2**36)]
CodecName = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]


class BlobName(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A blob and its size."""

    sha256: Sha256
    size_bytes: BlobBytes
    hashes: bytes = b""  # of its chunks, if there are several; see `wire.chunk_hashes`


class Difference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What makes a part of an older one: a packed set of the same names and shapes."""

    to: Sha256  # the older part, whole
    sha256: Sha256
    size_bytes: BlobBytes
    codec: CodecName
    hashes: bytes = b""  # of its chunks, as a part's


class AdapterPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One blob of the adapter: a packed tensor set (`wire.tensors`).

    LoRA's factors may come in slices: ranges of components, the most important ones first. ``rank``
    is the number of components in a slice; 0: it is the only one and has all of them.
    """

    name: PartName
    sha256: Sha256
    size_bytes: BlobBytes
    codec: CodecName
    difference: Difference | None = None
    slice: Annotated[int, msgspec.Meta(ge=0, le=4095)] = 0  # counts from the most important one
    rank: Rank = 0
    hashes: bytes = b""  # of its chunks, if there are several; see `wire.chunk_hashes`


class AdapterManifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an adapter is made of.

    ``round`` is the one after which it was published, 0 for the start. ``rank`` is that of the
    targets' factors, 0 without LoRA; a target may have less. ``tokens`` is the soft prompt's
    length, 0 without one; with ``prefix`` it is that of a prefix in every layer. ``weights`` are
    all parameters of the base with their shapes, if those are trained; while no part holds how far
    they have moved, they have not. ``previous`` is the manifest that was published before, of which
    differences are taken.
    """

    job: str
    round: Annotated[int, msgspec.Meta(ge=0)]
    base: Sha256  # digest of the base model's manifest
    rank: Rank
    tokens: Tokens
    shapes: dict[TargetName, TargetShape]
    hidden_size: Dimension
    parts: Annotated[list[AdapterPart], msgspec.Meta(max_length=4096)]
    previous: BlobName | None = None
    weights: dict[TargetName, Sizes] = {}
    prefix: PrefixShape | None = None

    def __post_init__(self) -> None:
        check_name(self.job, "the manifest's job")
        keys = [(part.name, part.slice) for part in self.parts]
        if len(set(keys)) != len(keys):
            raise MalformedError("a manifest names a part twice; each slice has one blob.")
        blobs = [part.sha256 for part in self.parts]
        if len(set(blobs)) != len(blobs):
            raise MalformedError("a manifest names a blob twice; each part has its own.")
        for part in self.parts:
            check_list(part.hashes, part.size_bytes)
            if part.difference is not None:
                check_list(part.difference.hashes, part.difference.size_bytes)
        names = {part.name for part in self.parts}
        if "lora" in names and not (self.rank and self.shapes):
            raise MalformedError(
                f"a manifest has LoRA parts, but rank {self.rank} and {len(self.shapes)} targets."
            )
        if "prompt" in names and not self.tokens:
            raise MalformedError("a manifest has a prompt part, but a prompt of 0 tokens.")
        if "full" in names and not self.weights:
            raise MalformedError("a manifest has a part of all weights, but names no weight.")
        self._check_ranks()
        self._check_sizes()

    def _check_ranks(self) -> None:
        """Refuse slices that are not just the adapter's components."""
        for target, shape in self.shapes.items():
            if shape.rank > self.rank:
                raise MalformedError(
                    f"a manifest gives {target} rank {shape.rank}; its adapter has {self.rank}."
                )
        ranks = [part.rank for part in self.parts if part.name == "lora"]
        alone = ranks == [0]
        if ranks and not alone and (0 in ranks or sum(ranks) != self.rank):
            raise MalformedError(
                f"a manifest's {len(ranks)} slices have ranks {min(ranks)} to {max(ranks)}, "
                f"{sum(ranks)} together; its adapter has rank {self.rank}."
            )
        others = [part for part in self.parts if part.name != "lora"]
        if any(part.rank or part.slice for part in others):
            raise MalformedError(
                f"a manifest gives part {others[0].name} a rank or a slice; only LoRA's parts have "
                "one."
            )

    def _check_sizes(self) -> None:
        """Refuse blobs larger than their tensors: a receiver makes room for what is announced."""
        wholes: dict[PartName, dict[str, tuple[int, ...]]] = {
            "lora": self.expected_lora(self.rank),
            "prompt": self.expected_prompt(),
            "full": self.expected_full(),
        }
        for name, shapes in wholes.items():
            parts = [part for part in self.parts if part.name == name]
            changes = [part.difference for part in parts if part.difference is not None]
            most = _most_bytes(shapes)
            for blobs in (parts, changes):
                claimed = sum(blob.size_bytes for blob in blobs)
                if claimed > most:
                    raise TooLargeError(
                        f"a manifest's {name} parts have {claimed} bytes; its tensors can't take "
                        f"more than {most}."
                    )

    def lora_slices(self) -> list[AdapterPart]:
        """Return the parts that hold LoRA's factors, the most important components first."""
        return sorted((one for one in self.parts if one.name == "lora"), key=lambda one: one.slice)

    def rank_of(self, part: AdapterPart) -> int:
        """Return how many components a LoRA part holds."""
        return part.rank or self.rank

    def expected_lora(self, rank: int, first: int = 0) -> dict[str, tuple[int, ...]]:
        """Return the shape of every factor at a rank, by tensor name.

        Args:
            rank: components, of which a target has at most its own.
            first: those before this one are left out.

        Returns:
            ``{target}.lora_A`` (rank, in) and ``{target}.lora_B`` (out, rank), as far as a target
            has any such component.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for target, shape in self.shapes.items():
            held = min(rank, shape.rank or rank) - first
            if held > 0:
                shapes[f"{target}.lora_A"] = (held, shape.inputs)
                shapes[f"{target}.lora_B"] = (shape.outputs, held)
        return shapes

    def expected_prompt(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor of the prompt, by name; empty without one.

        Returns:
            ``prompt`` (tokens, hidden), or ``prefix.{layer}.key`` and ``.value`` of every layer,
            (heads, tokens, size).
        """
        if not self.tokens or self.prefix is None:
            return {"prompt": (self.tokens, self.hidden_size)} if self.tokens else {}
        shape = (self.prefix.heads, self.tokens, self.prefix.size)
        layers = range(self.prefix.layers)
        return {f"prefix.{at}.{kind}": shape for at in layers for kind in ("key", "value")}

    def expected_full(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight of the base by name; empty where none is trained."""
        return dict(self.weights)

    def encode(self) -> bytes:
        """Return the manifest as compressed JSON.

        Raises:
            TooLargeError: more than `MAX_MANIFEST_BYTES`.
            MalformedError: a value is out of bounds; no receiver would take it.
        """
        payload = zlib.compress(msgspec.json.encode(self, order="deterministic"), 9)
        type(self).decode(payload)
        return payload

    def expected(self, part: AdapterPart) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of a part, by name."""
        if part.name != "lora":
            return self.expected_prompt() if part.name == "prompt" else self.expected_full()
        first = sum(one.rank for one in self.lora_slices() if one.slice < part.slice)
        return self.expected_lora(first + self.rank_of(part), first)

    @classmethod
    def decode(cls, payload: bytes) -> "AdapterManifest":
        """Read a manifest.

        Raises:
            TooLargeError: more than `MAX_MANIFEST_BYTES`, compressed or not; nothing was parsed.
            MalformedError: not compressed JSON, a field is missing, mistyped or out of bounds, or
                the parts contradict rank, targets or prompt.
        """
        if len(payload) > MAX_MANIFEST_BYTES:
            raise TooLargeError(
                f"a manifest has {len(payload)} bytes; at most {MAX_MANIFEST_BYTES} are read."
            )
        unpacker = zlib.decompressobj()
        try:
            text = unpacker.decompress(payload, MAX_MANIFEST_BYTES)
        except zlib.error as error:
            raise MalformedError(f"not an adapter's manifest: {error}") from error
        if unpacker.unconsumed_tail:
            raise TooLargeError(f"a manifest has more than {MAX_MANIFEST_BYTES} bytes unpacked.")
        if not unpacker.eof or unpacker.unused_data:
            raise MalformedError("not an adapter's manifest: it was cut off, or more follows it.")
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedError(f"not an adapter's manifest: {error}") from error
