"""A core's move is the same as the B that it makes."""

from collections.abc import Mapping

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed: pip install lorikeet[onnx]")

from edge_agent.inference.contract import Adapter, Factors
from edge_agent.inference.errors import EngineError
from tests.edge_agent.inference.onnx.conftest import Tuned
from wire.core_directions import directions

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

ROWS = [(row.tolist(), row.tolist()) for row in np.random.default_rng(2).integers(0, 300, (3, 40))]
SIDE = 6  # between the adapter's ranks, 8 and 4


def moved(factors: Mapping[str, Factors], moves: np.ndarray) -> dict[str, Factors]:
    """Return factors whose B is U (C + D) in its leading columns, target by target."""
    found, at = {}, 0
    for target in sorted(factors):
        a, b = factors[target]
        side = min(SIDE, b.shape[1])
        u, c = directions(b[:, :side])
        move = moves[at : at + side * side].reshape(side, side)
        at += side * side
        found[target] = Factors(a, np.concatenate([u @ (c + move), b[:, side:]], axis=1))
    assert at == len(moves)
    return found


def numbers(adapter: Adapter) -> int:
    return sum(min(SIDE, one.b.shape[1]) ** 2 for one in adapter.factors.values())


@pytest.mark.parametrize("prompt", [False, True])
def test_a_move_is_the_adapter_that_it_makes(tuned: Tuned, prompt: bool) -> None:
    adapter = tuned.prompted if prompt else tuned.adapter
    moves = np.random.default_rng(3).normal(size=numbers(adapter)).astype(np.float32) * 0.02
    cores = tuned.engine.open_cores(adapter, SIDE, context=40)
    found = cores.loss(ROWS, moves)
    made = Adapter("moved", moved(adapter.factors, moves), adapter.prompt)
    session = tuned.engine.open(made, slots=1, context=40)
    losses = [session.loss(*row) for row in ROWS]
    assert found.tokens == sum(one.tokens for one in losses) == 3 * 39
    assert found.total == pytest.approx(sum(one.total for one in losses), rel=1e-6)
    still = cores.loss(ROWS, np.zeros_like(moves))
    assert abs(still.total - found.total) > 1e-2
    cores.close()


def test_no_move_is_the_adapter_itself(llama: Tuned) -> None:
    cores = llama.engine.open_cores(llama.adapter, SIDE, context=40)
    session = llama.engine.open(llama.adapter, slots=1, context=40)
    found = cores.loss(ROWS[:1], np.zeros(numbers(llama.adapter), np.float32))
    assert found.total == pytest.approx(session.loss(*ROWS[0]).total, rel=1e-6)


def test_what_does_not_fit_is_refused(llama: Tuned) -> None:
    cores = llama.engine.open_cores(llama.adapter, SIDE, context=40)
    count = numbers(llama.adapter)
    with pytest.raises(EngineError, match=f"the cores have {count} numbers"):
        cores.loss(ROWS, np.zeros(count + 1, np.float32))
    with pytest.raises(EngineError, match="a row has 41 tokens; the session's context is 40"):
        cores.loss([([1] * 41, [1] * 41)], np.zeros(count, np.float32))
    cores.close()
    with pytest.raises(EngineError, match="the session is closed"):
        cores.loss(ROWS, np.zeros(count, np.float32))
    with pytest.raises(EngineError, match="has no factors"):
        llama.engine.open_cores(Adapter("bare"), SIDE, context=40)
