"""The ladder of a local task."""

from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.calibrate import calibration_of
from edge_agent.model_shape import model_shape
from edge_agent.planner import local_ladder
from wire.messages import RungPlan

if TYPE_CHECKING:
    from edge_agent.train_command import TrainOptions


def training_ladder(options: "TrainOptions", limit_bytes: int) -> list[RungPlan]:
    """Return the lines of the role that is to be trained, the highest first.

    Raises:
        ModelError: the model can't be used.
        AgentError: this device was never measured, and can't be.
    """
    shape = model_shape(Path(options.model))
    calibration = calibration_of(Path(options.state), options.threads, limit_bytes)
    lines = local_ladder(shape, options.knobs, limit_bytes, calibration)
    return [line for line in lines if line.role == options.role]
