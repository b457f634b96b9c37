"""Sequences behind an adapter, on ONNX Runtime."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.contract import Adapter
from edge_agent.inference.errors import EngineError
from edge_agent.inference.onnx.cache import Cache
from edge_agent.inference.onnx.model import OnnxModel
from edge_agent.inference.onnx.reading import check_ids, prompt_piece, read_on, row_loss
from edge_agent.loss import Loss

Array = NDArray[np.float32]


class OnnxSession:
    """See `edge_agent.inference.contract.Session`.

    Args:
        model: the base.
        adapter: None for the bare base.
        slots: sequences at a time; 0 for losses of rows alone.
        context: positions of each, without the soft prompt's.

    Raises:
        EngineError: the adapter doesn't fit.
    """

    def __init__(
        self, model: OnnxModel, adapter: Adapter | None, *, slots: int, context: int
    ) -> None:
        if slots < 0 or context < 1:
            raise EngineError(
                f"slots is {slots} and context {context}; must be at least 0 and at least 1."
            )
        self.slots = slots
        self.context = context
        self._model = model
        self._factors = model.factors(adapter)
        self._prompt = prompt = model.prompt(adapter)
        self._whole = context + (0 if prompt is None else len(prompt))
        self._front = prompt_piece(model, prompt, self._factors, self._whole)
        self._held: Cache | None = Cache(model.sizes, slots, self._front)

    def feed(self, tokens: Mapping[int, Sequence[int]]) -> dict[int, Array]:
        """Append tokens to sequences; those of one token each are read in one run."""
        for slot, more in tokens.items():
            self._check(slot, more)
        cache = self._cache
        found: dict[int, Array] = {}
        single = sorted(slot for slot, more in tokens.items() if len(more) == 1)
        if len(single) > 1:
            found |= self._step({slot: tokens[slot][0] for slot in single})
        for slot, more in tokens.items():
            if slot not in found:
                found[slot] = read_on(
                    self._model, cache, slot, more, factors=self._factors, whole=self._whole
                )
        return found

    def keep(self, slot: int, tokens: int) -> None:
        """Forget all but the first tokens of a slot's sequence; 0 makes it empty."""
        self._check_slot(slot)
        self._cache.keep(slot, tokens)

    def loss(self, ids: Sequence[int], labels: Sequence[int]) -> Loss:
        """Return the loss of one row, by itself; no slot is touched."""
        if self._held is None or len(ids) > self.context:
            self._refuse(len(ids))
        front = self._front
        if self._model.long and self._prompt is not None:
            whole = len(self._prompt) + len(ids)
            front = prompt_piece(self._model, self._prompt, self._factors, whole)
        return row_loss(self._model, ids, labels, self._factors, front)

    def close(self) -> None:
        """Give up the session's memory. The base stays."""
        self._held = self._front = self._prompt = None
        self._factors = {}

    @property
    def _cache(self) -> Cache:
        if self._held is None:
            raise EngineError("the session is closed. Open another one.")
        return self._held

    def _step(self, tokens: Mapping[int, int]) -> dict[int, Array]:
        """Read one token each of several slots.

        A run takes slots that stand side by side; those between that have no token read one, too,
        and forget it.
        """
        cache = self._cache
        first, last = min(tokens), max(tokens)
        every = range(first, last + 1)
        lengths = [cache.lengths[slot] if slot in tokens else 0 for slot in every]
        cache.reserve(max(lengths) + 1)
        made = self._model.run(
            np.array([[tokens.get(slot, 0)] for slot in every], dtype=np.int64), lengths,
            cache.past(slice(first, last + 1)), self._factors,
            places=[slot - first for slot in tokens], whole=self._whole,
        )  # fmt: skip
        for slot in tokens:
            cache.append(slot, made.new, slot - first, 1)
        return {slot: made.logits[at].copy() for at, slot in enumerate(tokens)}

    def _check(self, slot: int, tokens: Sequence[int]) -> None:
        self._check_slot(slot)
        if not tokens:
            raise EngineError(f"slot {slot} was given no token; must be one at least.")
        check_ids(tokens, self._model.sizes.vocabulary)
        length = self._cache.lengths[slot] - self._cache.front + len(tokens)
        if length > self.context:
            self._refuse(length)

    def _check_slot(self, slot: int) -> None:
        if not 0 <= slot < self.slots:
            raise EngineError(f"there is no slot {slot}; the session has {self.slots}.")

    def _refuse(self, length: int) -> None:
        _ = self._cache  # closed?
        raise EngineError(
            f"a text has {length} tokens; the session's context is {self.context}. Shorten it, or "
            "open a longer one."
        )
