"""What an inference engine does: one small protocol over llama.cpp and ONNX Runtime.

An *engine* holds a base model once. A *session* is an adapter on that base, with the sequences
that are generated behind it: an adapter never changes within a session. A new round's adapter is a
new session beside the old one, which is closed when its last sequence ends; the base is shared. The
soft prompt of an adapter stands in front of every sequence of its session: it is computed once, and
its positions are never counted in what callers say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.loss import Loss

Array = NDArray[np.float32]


class Factors(NamedTuple):
    """LoRA on one linear layer: it adds B A to the weight, with every scale folded into B."""

    a: Array  # (rank, in)
    b: Array  # (out, rank)


@dataclass(frozen=True)
class Adapter:
    """An adapter's values.

    Attributes:
        name: tells adapters apart, such as the sha256 of a manifest.
        factors: by module path of the linear layer, in Hugging Face's names and order of rows.
        prompt: embeddings in front of every sequence, (tokens, hidden); None for none.
    """

    name: str
    factors: Mapping[str, Factors] = field(default_factory=dict)
    prompt: Array | None = None


class Session(Protocol):
    """Sequences on a base with one adapter. Not safe for several threads at a time.

    Attributes:
        slots: how many sequences there may be at a time, numbered from 0.
        context: positions of each one, those of the soft prompt left out.
    """

    @property
    def slots(self) -> int: ...

    @property
    def context(self) -> int: ...

    def feed(self, tokens: Mapping[int, Sequence[int]]) -> dict[int, Array]:
        """Append tokens to sequences, all in one pass; return the logits after each one's last.

        Args:
            tokens: by slot, at least one each; a slot's sequence goes on where it ended.

        Returns:
            (vocabulary,) by slot. They are the caller's own.

        Raises:
            EngineError: a sequence outgrows the context, or the engine fails.
        """

    def keep(self, slot: int, tokens: int) -> None:
        """Forget all but the first tokens of a slot's sequence; 0 makes it empty."""

    def loss(self, ids: Sequence[int], labels: Sequence[int]) -> Loss:
        """Return the loss of one row, by itself; no slot is touched.

        Args:
            ids: at most `context`.
            labels: as many; no loss is taken where one is `wire.labels.IGNORED`, nor on the first.
        """

    def close(self) -> None:
        """Give up the session's memory. The base stays."""


class CoreSession(Protocol):
    """A base with an adapter whose cores can be moved: what training without backprop measures.

    With U and C of the leading columns of B (`wire.core_directions`), B = U C; a core's move D
    makes it U (C + D).
    """

    def loss(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], moves: Array) -> Loss:
        """Return the loss of rows with all cores moved.

        Args:
            rows: ids and labels of each, as in `Session.loss`.
            moves: of all cores, one after the other in the order of the targets' names, each in C
                order, (numbers,).
        """

    def close(self) -> None:
        """Give up the session's memory. The base stays."""


class Engine(Protocol):
    """A base model, held once.

    Attributes:
        name: ``llama.cpp`` or ``onnxruntime``.
        vocabulary: how many logits there are.
    """

    @property
    def name(self) -> str: ...

    @property
    def vocabulary(self) -> int: ...

    def open(self, adapter: Adapter | None, *, slots: int, context: int) -> Session:
        """Return a session on an adapter, None for the bare base.

        Args:
            adapter: its values.
            slots: sequences at a time; 0 for losses of rows alone.
            context: positions of each.

        Raises:
            EngineError: the adapter doesn't fit the base, or there is no room.
        """

    def open_cores(self, adapter: Adapter, rank: int, *, context: int) -> CoreSession:
        """Return a session whose cores of side ``rank`` can be moved, between the leading factors.

        Raises:
            EngineError: as for `open`.
        """

    def close(self) -> None:
        """Give up the model; all its sessions are closed."""
