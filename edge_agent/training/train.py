"""Some steps of training: the same seed, data and start give the same update."""

import math
import time
from collections.abc import Callable, Sequence
from itertools import islice

import torch

from edge_agent.errors import DataError
from edge_agent.loss import Loss
from edge_agent.planning.counts import rows_at_a_time
from edge_agent.training.batches import batches
from edge_agent.training.checkpoint import Checkpoint, Done
from edge_agent.training.contract import Placed
from edge_agent.training.control import Control
from edge_agent.training.errors import DivergedError, PausedError
from edge_agent.training.heap import trim_heap
from edge_agent.training.optimizers import Optimizer, optimizer_for
from edge_agent.training.proximal import Proximal
from edge_agent.training.schedule import factor_of, warmup_of
from edge_agent.training.share import ALONE, Share, share_of
from edge_agent.training.tokens import Row
from wire.labels import IGNORED
from wire.messages import LocalWork, TrainMetrics


def train(
    placed: Placed,
    rows: Sequence[Row],
    work: LocalWork,
    weight_decay: float,
    on_step: Callable[[int, float], None],
    *,
    checkpoint: Checkpoint | None = None,
    control: Control | None = None,
    pause_asked: Callable[[], bool] = lambda: False,
    share: Share = ALONE,
) -> TrainMetrics:
    """Train what is to be trained, in place.

    Args:
        placed: the adapter in the model.
        rows: to draw batches from.
        work: steps, batch, optimiser, learning rate and seed.
        weight_decay: of the optimiser, if the work names none.
        on_step: told the number of steps done and the last one's mean loss per token.
        checkpoint: where the state is kept now and then, and taken up from if there is one.
        control: added to each gradient, if there is one.
        pause_asked: looked at between steps.
        share: what this process does of each batch; the others must make the same call.

    Raises:
        DataError: no rows.
        AgentError: the work asks for an optimiser that is not known here.
        DivergedError: the loss is NaN or infinite.
        PausedError: after the state was saved; the same call goes on from there.
    """
    if not rows:
        raise DataError("there is no row to train on. Add more text.")
    with share.together():
        optimizer = optimizer_for(work, placed.trained.values(), weight_decay)
        proximal = Proximal(placed.trained.values(), work.proximal_mu)
    warmup, rows_each = warmup_of(work.warmup_steps, work.steps), rows_at_a_time(work)
    epsilon = work.adversarial.epsilon if work.adversarial else 0.0
    done = Done()
    if checkpoint is not None:
        done = checkpoint.load(_state(placed, optimizer), work.steps) or done
        optimizer.steps = len(done.losses)
        if done.losses:
            on_step(len(done.losses), done.losses[-1])
    if share.decided(pause_asked()):  # while the base was loaded, or evaluated
        raise PausedError(len(done.losses))
    earlier_s, began = done.seconds, time.monotonic()
    # The batches that were trained on before are drawn again and passed over: that costs nothing.
    drawn = islice(batches(rows, work.batch, work.steps, work.seed), len(done.losses), None)
    for step, (ids, labels) in enumerate(drawn, start=len(done.losses) + 1):
        with share.together():
            loss = _backward(placed, (ids, labels), rows_each, epsilon, share)
        loss = Loss(share.sums([loss.total])[0], loss.tokens)
        share.add_gradients(placed.trained.values())
        done.losses.append(loss.total / loss.tokens)
        done.tokens += loss.tokens
        if not math.isfinite(done.losses[-1]):
            raise DivergedError(
                f"the loss of step {step} is {done.losses[-1]}; the learning rate is {work.lr}. "
                "Lower local.lr."
            )
        with share.together():
            proximal.add()
            if control is not None:
                control.add()
            factor = factor_of(step, work.steps, work.schedule, warmup)
            optimizer.step(work.lr * factor, work.clip)
        trim_heap()
        done.seconds = earlier_s + time.monotonic() - began
        on_step(step, done.losses[-1])
        pause = step < work.steps and share.decided(pause_asked())
        if checkpoint is not None and share.index == 0 and (pause or checkpoint.due()):
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


def _backward(
    placed: Placed,
    batch: tuple[torch.Tensor, torch.Tensor],
    rows_each: int,
    epsilon: float,
    share: Share,
) -> Loss:
    """Add this process's part of the gradient of a batch's mean loss per token.

    Some rows are gone through at a time, of which it takes its share.

    Returns:
        Its part of the loss, with all tokens of the batch.
    """
    ids, labels = batch
    tokens = int((labels[:, 1:] != IGNORED).sum())
    total, rows = 0.0, rows_each * share.count
    for at in range(0, len(ids), rows):
        mine = share_of(share, ids[at : at + rows], labels[at : at + rows])
        total += placed.backward_loss(*mine, tokens, epsilon).total
    return Loss(total, tokens)


def _state(placed: Placed, optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Return all that a step changes, by name."""
    state: dict[str, torch.Tensor] = {}
    for (name, value), kept in zip(placed.trained.items(), optimizer.state(), strict=True):
        state[f"value.{name}"] = value
        state |= {f"{kind}.{name}": tensor for kind, tensor in kept.items()}
    return state
