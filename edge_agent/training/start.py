"""The adapter that a task starts from: a hub's, in files, or a fresh one.

Leading start, frozen rest: the global adapter's components stand in order of weight. A device of
rank r trains the r leading ones from where they are; the others stay in the model as they are, so
that the device learns what is missing and not what is known. What it sends is the difference to
its start, which the hub knows too.
"""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import AdapterError
from wire.core_directions import directions
from wire.errors import MalformedError
from wire.manifest import AdapterManifest, AdapterPart
from wire.tensors import PackedFile, reading

PROMPT = "prompt"
#: What a core's name ends with.
CORE = ".core"
#: Standard deviation of a fresh soft prompt: `initializer_range` of the Llama family.
_PROMPT_STD = 0.02

Array = NDArray[np.float32]


class Start(Protocol):
    """An adapter's values, read one at a time.

    Attributes:
        name: for messages.
        rank: of the targets' factors, some of which may have less; 0 without LoRA.
        tokens: of the soft prompt, 0 without one.
        hidden_size: its width.
        prompts: shape of each tensor of the soft prompt, or of a prefix in every layer, by name.
        shapes: (out, in) of each target.
        weights: shape of each weight of the base, where they are moved; empty elsewhere.
    """

    name: str
    rank: int
    tokens: int
    hidden_size: int

    @property
    def prompts(self) -> Mapping[str, tuple[int, ...]]: ...

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]: ...

    @property
    def weights(self) -> Mapping[str, tuple[int, ...]]: ...

    def rank_of(self, target: str) -> int:
        """Return the rank of a target's factors."""

    def factor(self, name: str) -> Array:
        """Return ``{target}.lora_A`` (rank, in) or ``{target}.lora_B`` (out, rank).

        Raises:
            AdapterError: the file is not what its manifest says.
        """

    def prompt(self, name: str = PROMPT) -> Array:
        """Return a tensor of the soft prompt, which has just one, or of a prefix.

        Raises:
            AdapterError: as `factor`.
        """

    def weight(self, name: str) -> Array:
        """Return by how much a weight of the base has moved.

        Raises:
            AdapterError: as `factor`.
        """


def leading(start: Start, name: str, rank: int) -> Array:
    """Return the leading components of a factor: (rank, in) of A, (out, rank) of B."""
    whole = start.factor(name)
    return whole[:rank] if name.endswith(".lora_A") else whole[:, :rank]


def core_start(start: Start, target: str, rank: int) -> tuple[Array, Array]:
    """Return U (out, rank) and C (rank, rank) of a target's leading B = U C."""
    return directions(leading(start, f"{target}.lora_B", rank))


def trailing(start: Start, name: str, rank: int) -> Array:
    """Return what stands behind the leading components of a factor."""
    whole = start.factor(name)
    return whole[rank:] if name.endswith(".lora_A") else whole[:, rank:]


class PackedStart:
    """A hub's adapter.

    Args:
        manifest: what it is made of.
        parts: its files by sha256.
        components: of LoRA, the leading ones, in whole slices; 0: all.

    Raises:
        AdapterError: a file is missing or is not what the manifest says.
    """

    def __init__(
        self, manifest: AdapterManifest, parts: Mapping[str, Path], components: int = 0
    ) -> None:
        self.name = f"the adapter of job {manifest.job}, round {manifest.round}"
        self.round = manifest.round  # after which it was published
        self.rank = components or manifest.rank
        self.tokens = manifest.tokens
        self.hidden_size = manifest.hidden_size
        self.shapes = {name: (s.outputs, s.inputs) for name, s in manifest.shapes.items()}
        self.prompts = manifest.expected_prompt()
        self.weights = manifest.expected_full()
        self._manifest = manifest
        self._parts = parts
        try:
            for path, expected in self._slices():
                PackedFile.open(path, expected).close()
            if self.weights:
                with reading(self._only("full"), self.weights):
                    pass
        except (MalformedError, OSError) as error:
            raise AdapterError(f"{self.name}: {error}") from error

    def rank_of(self, target: str) -> int:
        return min(self.rank, self._manifest.shapes[target].rank or self.rank)

    def factor(self, name: str) -> Array:
        # A slice is a range of components: rows of A, columns of B.
        along = 0 if name.endswith(".lora_A") else 1
        found = []
        try:
            for path, expected in self._slices():
                with PackedFile.open(path, expected) as file:
                    if name in file:
                        found.append(file.get(name))
            return np.concatenate(found, axis=along)
        except (MalformedError, OSError) as error:
            raise AdapterError(f"{self.name}: {error}") from error

    def prompt(self, name: str = PROMPT) -> Array:
        try:
            file = self._only("prompt")
            if file is None:
                raise MalformedError(f"the prompt has {self.tokens} tokens, but no part holds it.")
            with PackedFile.open(file, self.prompts) as packed:
                return packed.get(name).copy()
        except (MalformedError, OSError) as error:
            raise AdapterError(f"{self.name}: {error}") from error

    def weight(self, name: str) -> Array:
        try:
            with reading(self._only("full"), self.weights) as tensor_of:
                return tensor_of(name)
        except (MalformedError, OSError) as error:
            raise AdapterError(f"{self.name}: {error}") from error

    def _slices(self) -> Iterator[tuple[Path, dict[str, tuple[int, ...]]]]:
        """Yield the rank slices, the most important first."""
        manifest = self._manifest
        slices = manifest.lora_slices()
        if manifest.rank and not slices:
            raise MalformedError(f"rank is {manifest.rank}, but no part holds LoRA factors.")
        held = 0
        for part in slices:
            if held >= self.rank:
                return
            held += manifest.rank_of(part)
            yield self._file(part), manifest.expected(part)

    def _only(self, name: str) -> Path | None:
        """Return the file of a part that comes whole; None: the adapter has no such part."""
        parts = [part for part in self._manifest.parts if part.name == name]
        return self._file(parts[0]) if parts else None

    def _file(self, part: AdapterPart) -> Path:
        if part.sha256 not in self._parts:
            raise MalformedError(f"the file of part {part.sha256[:12]} was not given.")
        return self._parts[part.sha256]


class FreshStart:
    """An adapter that changes nothing yet: random A with rows of unit norm, B = 0; or no move.

    As in Hu et al. 2021 (arXiv 2106.09685, section 4.1). Nothing is held: each factor is drawn
    again from its seed.

    Args:
        shapes: (out, in) of each target.
        rank: of every target's factors.
        tokens: of the soft prompt.
        hidden_size: its width.
        seed: with a target's name it fixes that target's A.
        weights: shape of each weight of the base, if those are to be trained.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        rank: int,
        tokens: int,
        hidden_size: int,
        seed: int,
        *,
        weights: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.name = "a fresh adapter"
        self.rank = rank
        self.tokens = tokens
        self.hidden_size = hidden_size
        self.prompts = {PROMPT: (tokens, hidden_size)} if tokens else {}
        self.shapes = dict(shapes) if rank else {}
        self.weights = dict(weights or {})
        self._seed = seed

    def rank_of(self, target: str) -> int:  # noqa: ARG002 - all alike
        return self.rank

    def factor(self, name: str) -> Array:
        target, _, kind = name.rpartition(".")
        out, inputs = self.shapes[target]
        if kind == "lora_B":
            return np.zeros((out, self.rank), dtype=np.float32)
        drawn = self._drawn(name, (self.rank, inputs))
        unit: Array = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit

    def prompt(self, name: str = PROMPT) -> Array:
        return self._drawn(name, (self.tokens, self.hidden_size)) * np.float32(_PROMPT_STD)

    def weight(self, name: str) -> Array:
        return np.zeros(self.weights[name], dtype=np.float32)

    def _drawn(self, name: str, shape: tuple[int, int]) -> Array:
        rng = np.random.default_rng([self._seed, zlib.crc32(name.encode())])
        return rng.standard_normal(shape, dtype=np.float32)
