"""A core that moves is an adapter with that product."""

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't built: make llama")

from edge_agent.inference.contract import Adapter, Factors
from edge_agent.inference.errors import EngineError
from edge_agent.inference.llama.engine import LlamaEngine
from tests.edge_agent.inference.llama.conftest import Small
from wire.core_directions import directions

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ROWS = [([3, 5, 8, 13, 21], [-100, 5, 8, 13, 21]), ([100, 90, 80], [-100, -100, 80])]
SIDE = 4
Llama = tuple[Small, LlamaEngine]


def _moved(adapter: Adapter, moves: np.ndarray) -> Adapter:
    """Return the adapter whose B is U (C + D), by numpy alone."""
    factors, first = {}, 0
    for name in sorted(adapter.factors):
        a, b = adapter.factors[name]
        u, c = directions(b[:, :SIDE])
        d = moves[first : first + c.size].reshape(c.shape)
        first += c.size
        factors[name] = Factors(a, np.hstack([u @ (c + d), b[:, SIDE:]]))
    assert first == len(moves)
    return Adapter("moved", factors, adapter.prompt)


def _loss(engine: LlamaEngine, adapter: Adapter) -> tuple[float, int]:
    session = engine.open(adapter, slots=0, context=16)
    found = [session.loss(*row) for row in ROWS]
    session.close()
    return sum(one.total for one in found), sum(one.tokens for one in found)


@pytest.mark.parametrize("tokens", [0, 3])
def test_moved_cores_are_an_adapter_with_that_product(llama: Llama, tokens: int) -> None:
    """The soft prompt's keys depend on the cores, too."""
    model, engine = llama
    rng = np.random.default_rng(4)
    prompt = rng.normal(size=(tokens, 64)).astype(np.float32) if tokens else None
    adapter = Adapter("a", model.adapter.factors, prompt)
    cores = engine.open_cores(adapter, SIDE, context=16)
    numbers = SIDE * SIDE * len(adapter.factors)
    still = cores.loss(ROWS, np.zeros(numbers, np.float32))
    assert still.total == pytest.approx(_loss(engine, adapter)[0], rel=1e-4)
    assert still.tokens == 5
    for _ in range(2):
        moves = rng.normal(size=numbers).astype(np.float32) * 0.05
        found = cores.loss(ROWS, moves)
        assert found.total == pytest.approx(_loss(engine, _moved(adapter, moves))[0], rel=1e-4)
        assert abs(found.total - still.total) > 1e-3
    assert cores.loss(ROWS, np.zeros(numbers, np.float32)).total == still.total
    cores.close()
    with pytest.raises(EngineError, match="closed"):
        cores.loss(ROWS, moves)


def test_a_fresh_adapter_moves_from_nothing(llama: Llama) -> None:
    """B is 0 in the first round: C is 0, and U is made of fixed signs."""
    model, engine = llama
    factors = {n: Factors(one.a, np.zeros_like(one.b)) for n, one in model.adapter.factors.items()}
    adapter = Adapter("fresh", factors)
    cores = engine.open_cores(adapter, SIDE, context=16)
    moves = np.full(SIDE * SIDE * len(factors), 0.02, np.float32)
    found = cores.loss(ROWS, moves)
    assert found.total == pytest.approx(_loss(engine, _moved(adapter, moves))[0], rel=1e-4)


def test_impossible_moves_are_refused(llama: Llama) -> None:
    model, engine = llama
    cores = engine.open_cores(model.adapter, SIDE, context=8)
    numbers = SIDE * SIDE * len(model.adapter.factors)
    with pytest.raises(EngineError, match=f"{numbers} are wanted"):
        cores.loss(ROWS, np.zeros(3, np.float32))
    with pytest.raises(EngineError, match="row has 9 tokens"):
        cores.loss([(list(range(9)), list(range(9)))], np.zeros(numbers, np.float32))
    with pytest.raises(EngineError, match="no factors"):
        engine.open_cores(Adapter("p", {}, np.ones((2, 64), np.float32)), SIDE, context=8)
