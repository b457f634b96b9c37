"""Cores that move: the adapter is written anew for each move, and llama.cpp reads it again.

llama.cpp has no call that changes a loaded adapter; reading one again costs little against a pass
through the model (docs/adr/0028).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from edge_agent.inference.contract import Adapter, Array, Factors
from edge_agent.inference.errors import EngineError
from edge_agent.inference.llama.context import Context
from edge_agent.inference.llama.rows import row_loss
from edge_agent.loss import Loss
from wire.core_directions import directions


class _Core(NamedTuple):
    """One target: B's leading columns are U C."""

    target: str
    u: Array  # (out, side)
    c: Array  # (side, side)
    first: int  # where its move begins in the vector of all


class LlamaCores:
    """See `edge_agent.inference.contract.CoreSession`.

    Args:
        make: the context of rows that computes with the bare base.
        adapter: checked; each target's core has the side of `rank`, or of its own rank.
        rank: the cores' side.
        context: positions of a row.
        load: llama.cpp's adapter of factors.
        free: gives one up.
        closed: told once the session is closed.
    """

    def __init__(
        self,
        make: Callable[[], Context],
        adapter: Adapter,
        rank: int,
        *,
        context: int,
        load: Callable[[dict[str, Factors]], Any],
        free: Callable[[Any], None],
        closed: Callable[["LlamaCores"], None],
    ) -> None:
        self._adapter = adapter
        self._positions = context
        self._load, self._free, self._closed = load, free, closed
        self._cores: list[_Core] = []
        first = 0
        for target in sorted(adapter.factors):
            b = adapter.factors[target].b
            u, c = directions(b[:, :rank])
            self._cores.append(_Core(target, u, c, first))
            first += c.size
        self.numbers = first
        if not first:
            raise EngineError(f"the adapter has no core of side {rank}: it has no factors.")
        self._loaded: Any = None
        self._context: Context | None = make()

    def loss(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], moves: Array) -> Loss:
        context = self._context
        if context is None:
            raise EngineError("the session is closed.")
        if moves.shape != (self.numbers,):
            raise EngineError(f"{list(moves.shape)} moves were given; {self.numbers} are wanted.")
        self._move(context, moves)
        total, tokens = 0.0, 0
        for ids, labels in rows:
            if len(ids) > self._positions:
                raise EngineError(
                    f"a row has {len(ids)} tokens; the session's context is {self._positions}."
                )
            one = row_loss(context, ids, labels)
            total, tokens = total + one.total, tokens + one.tokens
        return Loss(total, tokens)

    def close(self) -> None:
        if self._context is None:
            return
        self._context.close()
        self._context = None
        if self._loaded is not None:
            self._free(self._loaded)
            self._loaded = None
        self._closed(self)

    def _move(self, context: Context, moves: Array) -> None:
        moved = self._load(self._factors(moves))
        try:
            context.use(moved)
        except BaseException:
            self._free(moved)
            raise
        if self._loaded is not None:
            self._free(self._loaded)
        self._loaded = moved

    def _factors(self, moves: Array) -> dict[str, Factors]:
        found = {}
        for core in self._cores:
            a, b = self._adapter.factors[core.target]
            side = len(core.c)
            move = moves[core.first : core.first + core.c.size].reshape(core.c.shape)
            leading = core.u @ (core.c + move)
            found[core.target] = Factors(a, np.concatenate([leading, b[:, side:]], axis=1))
        return found
