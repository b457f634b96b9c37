"""The ladder of a local task."""

from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError
from edge_agent.measure import runtime_bytes
from edge_agent.planner import ladder
from wire.errors import WireError
from wire.messages import RungPlan
from wire.model_file import config_of
from wire.shape import shape_of

if TYPE_CHECKING:
    from edge_agent.train_command import TrainOptions


def training_ladder(options: "TrainOptions", limit_bytes: int) -> list[RungPlan]:
    """Return the lines of the role that is to be trained, the highest first.

    Raises:
        ModelError: the model can't be used.
    """
    try:
        shape = shape_of(config_of(Path(options.model)), 4)
    except WireError as error:
        raise ModelError(f"--model: {error}") from error
    lines = ladder(shape, options.knobs, limit_bytes, runtime_bytes(options.threads))
    return [line for line in lines if line.role == options.role]
