"""A tiny model that is served: by an engine of three lines, and by llama.cpp."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from edge_agent.inference.errors import EngineError
from tests.edge_agent.conftest import save_tokenizer
from tests.edge_agent.serving.model import TEMPLATE, write_model


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


@pytest.fixture(scope="session")
def served_base(make_base: Callable[..., Path]) -> Path:
    """Return the folder of a base with a chat template."""
    base = make_base("llama")
    save_tokenizer(base, TEMPLATE)
    return base


@pytest.fixture(scope="session")
def gguf(served_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same base as a GGUF file."""
    return write_model(served_base, tmp_path_factory.mktemp("served"))
