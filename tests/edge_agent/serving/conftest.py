"""A tiny model that is served: by an engine of three lines, and by llama.cpp."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from edge_agent.inference.contract import EngineError


class CountingSession:
    """A session in which a token's successor is that token plus the adapter's step.

    It says what was computed, and refuses what a real one refuses.
    """

    def __init__(self, step: int = 1, slots: int = 2, context: int = 32) -> None:
        self.step = step
        self.slots = slots
        self.context = context
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.passes: list[dict[int, list[int]]] = []
        self.closed = False
        self.fails = False

    def feed(self, tokens: Mapping[int, Sequence[int]]) -> dict[int, np.ndarray]:
        if self.closed or self.fails:
            raise EngineError("the session is closed." if self.closed else "it fails.")
        self.passes.append({slot: list(ids) for slot, ids in tokens.items()})
        found = {}
        for slot, ids in tokens.items():
            assert ids
            self.held[slot] += ids
            assert len(self.held[slot]) <= self.context
            found[slot] = np.eye(256, dtype=np.float32)[(ids[-1] + self.step) % 256]
        return found

    def keep(self, slot: int, tokens: int) -> None:
        del self.held[slot][tokens:]

    def loss(self, ids: Sequence[int], labels: Sequence[int]) -> tuple[float, int]:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def session() -> CountingSession:
    """Return a session with two slots of 32 positions, in which tokens count up."""
    return CountingSession()
