"""Some steps of training: the same seed, data and start give the same update."""

import math
import time
from collections.abc import Callable, Sequence

from edge_agent.errors import DataError
from edge_agent.training.adamw import AdamW
from edge_agent.training.adapter import PlacedAdapter
from edge_agent.training.errors import DivergedError
from edge_agent.training.loss import backward_loss
from edge_agent.training.tokens import Row, batches
from wire.messages import LocalWork, TrainMetrics

GRADIENT_NORM = 1.0
_WARMUP_STEPS = 3


def train(
    placed: PlacedAdapter,
    rows: Sequence[Row],
    work: LocalWork,
    weight_decay: float,
    on_step: Callable[[int, float], None],
) -> TrainMetrics:
    """Train what is to be trained, in place.

    Args:
        placed: the adapter in the model.
        rows: to draw batches from.
        work: steps, batch, learning rate and seed.
        weight_decay: of AdamW.
        on_step: told the number of steps done and the last one's mean loss per token.

    Raises:
        DataError: no rows.
        DivergedError: the loss is NaN or infinite.
    """
    if not rows:
        raise DataError("there is no row to train on. Add more text.")
    optimizer = AdamW(placed.trained.values(), weight_decay)
    losses: list[float] = []
    tokens = 0
    began = time.monotonic()
    drawn = batches(rows, work.batch, work.steps, work.seed)
    for step, (ids, labels) in enumerate(drawn, start=1):
        loss = backward_loss(placed.model, placed.prompt, ids, labels)
        losses.append(loss.total / loss.tokens)
        tokens += loss.tokens
        if not math.isfinite(losses[-1]):
            raise DivergedError(
                f"the loss of step {step} is {losses[-1]}; the learning rate is {work.lr}. "
                "Lower local.lr."
            )
        optimizer.step(_rate(step, work), GRADIENT_NORM)
        on_step(step, losses[-1])
    return TrainMetrics(
        steps=len(losses),
        tokens=tokens,
        loss_first=losses[0],
        loss_last=losses[-1],
        seconds_per_step=(time.monotonic() - began) / len(losses),
    )


def _rate(step: int, work: LocalWork) -> float:
    """Rise over the first steps: AdamW's first ones follow the signs of single gradients."""
    warmup = min(_WARMUP_STEPS, work.steps // 4)
    return work.lr * min(1.0, step / (warmup + 1))
