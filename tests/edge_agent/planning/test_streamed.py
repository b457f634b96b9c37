"""The planner's numbers are those of the modules that it must not import."""

from edge_agent.planning import streamed
from edge_agent.training import evaluate
from edge_agent.training.blockwise import head, mapped_weights


def test_the_engines_constants_are_the_planners():
    assert streamed.PIECE_LOGITS == head.PIECE_LOGITS
    assert streamed.LEAST_ROWS == head.LEAST_ROWS
    assert streamed.PIECE_BYTES == mapped_weights.PIECE_BYTES
    assert streamed.EVALUATED_ROWS == evaluate.MAX_ROWS
