"""Some steps of training: the same seed, data and start give the same update."""

import math
import time
from collections.abc import Callable, Sequence
from itertools import islice

import torch

from edge_agent.errors import DataError
from edge_agent.training.adamw import AdamW
from edge_agent.training.checkpoint import Checkpoint, Done
from edge_agent.training.contract import Placed
from edge_agent.training.errors import DivergedError, PausedError
from edge_agent.training.heap import trim_heap
from edge_agent.training.proximal import Proximal
from edge_agent.training.tokens import Row, batches
from wire.messages import LocalWork, TrainMetrics

GRADIENT_NORM = 1.0
_WARMUP_STEPS = 3


def train(
    placed: Placed,
    rows: Sequence[Row],
    work: LocalWork,
    weight_decay: float,
    on_step: Callable[[int, float], None],
    *,
    checkpoint: Checkpoint | None = None,
    pause_asked: Callable[[], bool] = lambda: False,
) -> TrainMetrics:
    """Train what is to be trained, in place.

    Args:
        placed: the adapter in the model.
        rows: to draw batches from.
        work: steps, batch, learning rate and seed.
        weight_decay: of AdamW.
        on_step: told the number of steps done and the last one's mean loss per token.
        checkpoint: where the state is kept now and then, and taken up from if there is one.
        pause_asked: looked at between steps.

    Raises:
        DataError: no rows.
        DivergedError: the loss is NaN or infinite.
        PausedError: after the state was saved; the same call goes on from there.
    """
    if not rows:
        raise DataError("there is no row to train on. Add more text.")
    optimizer = AdamW(placed.trained.values(), weight_decay)
    proximal = Proximal(placed.trained.values(), work.proximal_mu)
    done = Done()
    if checkpoint is not None:
        done = checkpoint.load(_state(placed, optimizer), work.steps) or done
        optimizer.steps = len(done.losses)
        if done.losses:
            on_step(len(done.losses), done.losses[-1])
    if pause_asked():  # while the base was loaded, or evaluated
        raise PausedError(len(done.losses))
    earlier_s, began = done.seconds, time.monotonic()
    # The batches that were trained on before are drawn again and passed over: that costs nothing.
    drawn = islice(batches(rows, work.batch, work.steps, work.seed), len(done.losses), None)
    for step, (ids, labels) in enumerate(drawn, start=len(done.losses) + 1):
        loss = placed.backward_loss(ids, labels)
        done.losses.append(loss.total / loss.tokens)
        done.tokens += loss.tokens
        if not math.isfinite(done.losses[-1]):
            raise DivergedError(
                f"the loss of step {step} is {done.losses[-1]}; the learning rate is {work.lr}. "
                "Lower local.lr."
            )
        proximal.add()
        optimizer.step(_rate(step, work), GRADIENT_NORM)
        trim_heap()
        done.seconds = earlier_s + time.monotonic() - began
        on_step(step, done.losses[-1])
        pause = step < work.steps and pause_asked()
        if checkpoint is not None and (pause or checkpoint.due()):
            checkpoint.save(_state(placed, optimizer), done)
        if pause:
            raise PausedError(step)
    return TrainMetrics(
        steps=len(done.losses),
        tokens=done.tokens,
        loss_first=done.losses[0],
        loss_last=done.losses[-1],
        seconds_per_step=done.seconds / len(done.losses),
    )


def _state(placed: Placed, optimizer: AdamW) -> dict[str, torch.Tensor]:
    """Return all that a step changes, by name."""
    state: dict[str, torch.Tensor] = {}
    pairs = zip(placed.trained.items(), optimizer.moments(), strict=True)
    for (name, value), (first, second) in pairs:
        state[f"value.{name}"], state[f"first.{name}"], state[f"second.{name}"] = (
            value, first, second,
        )  # fmt: skip
    return state


def _rate(step: int, work: LocalWork) -> float:
    """Rise over the first steps: AdamW's first ones follow the signs of single gradients."""
    warmup = min(_WARMUP_STEPS, work.steps // 4)
    return work.lr * min(1.0, step / (warmup + 1))
