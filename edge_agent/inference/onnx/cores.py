"""An adapter whose cores are moved: B is an input of the graph, so a move is a product in numpy.

With U and C of the leading columns of B (`wire.core_directions`) these become U (C + D).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.contract import Adapter
from edge_agent.inference.errors import EngineError
from edge_agent.inference.onnx.model import OnnxModel, as_input
from edge_agent.inference.onnx.reading import prompt_piece, row_loss
from edge_agent.loss import Loss
from wire.core_directions import directions

Array = NDArray[np.float32]


class _Core(NamedTuple):
    u: Array  # (out, rank)
    c: Array  # (rank, rank)
    rest: Array  # (out, the other columns of B)

    def moved(self, move: Array) -> Array:
        """Return B with the core moved by (rank, rank)."""
        return np.concatenate([self.u @ (self.c + move), self.rest], axis=1)


class OnnxCoreSession:
    """See `edge_agent.inference.contract.CoreSession`.

    Args:
        model: the base.
        adapter: on it.
        rank: side of a core; of a layer whose factors have less, theirs.
        context: the longest row.

    Raises:
        EngineError: the adapter doesn't fit, or has no factors.
    """

    def __init__(self, model: OnnxModel, adapter: Adapter, rank: int, *, context: int) -> None:
        if rank < 1 or context < 1:
            raise EngineError(f"rank is {rank} and context {context}; both must be 1 at least.")
        if not adapter.factors:
            raise EngineError(f"adapter {adapter.name[:12]} has no factors, so no cores either.")
        self._model = model
        self._context = context
        self._factors = model.factors(adapter)
        self._prompt = model.prompt(adapter)
        self._cores: dict[str, _Core] = {}
        for target in sorted(adapter.factors):
            b = adapter.factors[target].b
            self._cores[target] = _Core(*directions(b[:, :rank]), b[:, rank:])
        self._numbers = sum(core.c.size for core in self._cores.values())

    def loss(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], moves: Array) -> Loss:
        """Return the loss of rows with all cores moved."""
        if not self._cores:
            raise EngineError("the session is closed. Open another one.")
        if moves.shape != (self._numbers,):
            raise EngineError(
                f"moves have the shape {list(moves.shape)}; the cores have {self._numbers} numbers."
            )
        longest = max((len(ids) for ids, _ in rows), default=0)
        if longest > self._context:
            raise EngineError(
                f"a row has {longest} tokens; the session's context is {self._context}."
            )
        factors = {**self._factors}
        at = 0
        for target, core in self._cores.items():
            move = moves[at : at + core.c.size].reshape(core.c.shape)
            factors[f"{target}.lora_B"] = as_input(core.moved(move))
            at += core.c.size
        total, tokens, known = 0.0, 0, None
        for ids, labels in rows:
            # The soft prompt's keys and values come through the moved layers, too.
            if known is None or self._model.long:
                whole = len(ids) + (0 if self._prompt is None else len(self._prompt))
                known = prompt_piece(self._model, self._prompt, factors, whole)
            found = row_loss(self._model, ids, labels, factors, known)
            total, tokens = total + found.total, tokens + found.tokens
        return Loss(total, tokens)

    def close(self) -> None:
        """Give up the session's memory. The base stays."""
        self._cores, self._factors = {}, {}
        self._prompt = None
