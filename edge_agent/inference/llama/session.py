"""A base with one adapter: sequences in slots, and losses of rows beside them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from edge_agent.inference.contract import Array
from edge_agent.inference.errors import EngineError
from edge_agent.inference.llama.context import Context, Token
from edge_agent.inference.llama.rows import row_loss
from edge_agent.loss import Loss


class MakeContext(Protocol):
    """Makes contexts that compute with a session's adapter."""

    def __call__(self, *, sequences: int, positions: int, rows: bool) -> Context:
        """Return one.

        Args:
            sequences: at a time.
            positions: of all of them together.
            rows: whether losses are to be taken.
        """


class LlamaSession:
    """A session, see `edge_agent.inference.contract.Session`.

    Args:
        make: contexts. That of the slots is made at once, that of rows when the first one comes.
        slots: how many sequences there may be; 0 for rows alone.
        context: positions of each one.
        closed: told once the session is closed, to give up its adapter.
    """

    def __init__(
        self,
        make: MakeContext,
        *,
        slots: int,
        context: int,
        closed: Callable[["LlamaSession"], None],
    ) -> None:
        self._make = make
        self._context = context
        self._closed = closed
        self._lengths = [0] * slots
        self._slots: Context | None = None
        self._rows: Context | None = None
        self._open = True
        if slots:
            self._slots = make(sequences=slots, positions=slots * context, rows=False)

    @property
    def slots(self) -> int:
        return len(self._lengths)

    @property
    def context(self) -> int:
        return self._context

    def feed(self, tokens: Mapping[int, Sequence[int]]) -> dict[int, Array]:
        room = self._room(tokens)
        places = [
            Token(number, self._lengths[slot] + at, slot, at == len(ids) - 1)
            for slot, ids in tokens.items()
            for at, number in enumerate(ids)
        ]
        found: dict[int, Array] = {}
        try:
            for first in range(0, len(places), room.piece):
                piece = places[first : first + room.piece]
                wanted = [token.sequence for token in piece if token.wanted]
                for slot, logits in zip(wanted, room.run(piece), strict=True):
                    found[slot] = logits.copy()
        except EngineError:
            for slot in tokens:  # all or nothing
                room.keep(slot, self._lengths[slot])
            raise
        for slot, ids in tokens.items():
            self._lengths[slot] += len(ids)
        return found

    def keep(self, slot: int, tokens: int) -> None:
        room = self._room((slot,))
        if tokens < self._lengths[slot]:
            room.keep(slot, tokens)
            self._lengths[slot] = tokens

    def loss(self, ids: Sequence[int], labels: Sequence[int]) -> Loss:
        if not self._open:
            raise EngineError("the session is closed.")
        if len(ids) > self._context:
            raise EngineError(
                f"a row has {len(ids)} tokens; the session's context is {self._context}."
            )
        if self._rows is None:
            self._rows = self._make(sequences=1, positions=self._context, rows=True)
        return row_loss(self._rows, ids, labels)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        for context in (self._slots, self._rows):
            if context is not None:
                context.close()
        self._closed(self)

    def _room(self, tokens: Sequence[int] | Mapping[int, Sequence[int]]) -> Context:
        """Return the slots' context, once what is asked of it is possible."""
        if not self._open or self._slots is None:
            raise EngineError("the session is closed, or has no slots.")
        for slot in tokens:
            if not 0 <= slot < self.slots:
                raise EngineError(f"slot {slot} isn't there; there are {self.slots}, from 0 on.")
        if isinstance(tokens, Mapping):
            for slot, ids in tokens.items():
                if not ids:
                    raise EngineError(f"slot {slot} is given no token.")
                if self._lengths[slot] + len(ids) > self._context:
                    raise EngineError(
                        f"a sequence of {self._lengths[slot] + len(ids)} tokens outgrows the "
                        f"context of {self._context}."
                    )
        return self._slots
