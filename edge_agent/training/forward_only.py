"""Training by looking: each direction costs two losses, and is gone along as far as pays.

Along a direction of `wire.forward_only` the loss is nearly a parabola. Three values of it, of which
the middle one is known from the step before, give slope and curvature, and so its lowest point.
The slope is that of a few rows, not of all text: each loss is taken over two halves of them, and
where the halves contradict one another the step is cut (James and Stein 1961, for one mean). How
far to look is learnt of each core by itself: as far as its curvature lifts the loss by `LIFT`.

No torch here: whatever can tell a loss with its cores moved will do.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import AgentError, DataError
from edge_agent.inference.contract import CoreSession
from edge_agent.training.errors import DivergedError, PausedError
from edge_agent.training.looks import Looks
from edge_agent.training.steps_file import StepsFile, Taken
from edge_agent.training.tokens import Row, drawn_rows
from wire.forward_only import VERSION, Moves
from wire.messages import ForwardOnly, LocalWork, TrainMetrics


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        steps: along each direction, as they travel.
        metrics: losses are those of the first rows, before and after.
    """

    steps: list[float]
    metrics: TrainMetrics


def train(
    session: CoreSession,
    rows: Sequence[Row],
    sides: Sequence[int],
    work: LocalWork,
    on_step: Callable[[int, float | None], None],
    *,
    kept: StepsFile | None = None,
    pause_asked: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train cores without backprop.

    Args:
        session: the adapter with which the task begins.
        rows: to draw from.
        sides: of each core, in the order of the targets' names.
        work: directions as ``steps``, rows of a loss as ``batch``, seed; and ``forward``.
        on_step: told the number of directions done and the loss where they led, per token.
        kept: where the steps are kept now and then, and taken up from if there are some.
        pause_asked: looked at before each loss.

    Raises:
        DataError: no rows.
        AgentError: the work is of another kind, or of a version that is not known here.
        DivergedError: the loss of the adapter as it came, or in the end, is NaN or infinite.
        PausedError: after the steps were saved; the same call goes on from there.
        EngineError: of the session.
    """
    forward = _checked(work.forward)
    if not rows:
        raise DataError("there is no row to train on. Add more text.")
    run = _Run(session, rows, sides, work, forward)
    if kept is not None:
        run.take_up(kept.load())
    began, earlier_s = time.monotonic(), run.taken.seconds
    while len(run.taken.steps) < work.steps:
        if pause_asked():
            if kept is not None:
                kept.save(run.taken)
            raise PausedError(len(run.taken.steps))
        run.step()
        run.taken.seconds = earlier_s + time.monotonic() - began
        on_step(len(run.taken.steps), run.level)
        if kept is not None and kept.due():
            kept.save(run.taken)
    return Trained(
        run.taken.steps,
        TrainMetrics(
            steps=len(run.taken.steps),
            tokens=run.taken.tokens,
            loss_first=run.taken.first,
            loss_last=run.last(),
            seconds_per_step=run.taken.seconds / len(run.taken.steps),
        ),
    )


def _checked(forward: ForwardOnly | None) -> ForwardOnly:
    if forward is None or forward.version != VERSION:
        asked = "nothing of it" if forward is None else f"version {forward.version}"
        raise AgentError(
            f"training without backprop was asked for, with {asked}; version {VERSION} is known "
            "here. Update the older side."
        )
    return forward


@dataclass
class _Run:
    """One task, between two directions."""

    session: CoreSession
    rows: Sequence[Row]
    sides: Sequence[int]
    work: LocalWork
    forward: ForwardOnly
    taken: Taken = field(default_factory=Taken)

    def __post_init__(self) -> None:
        self.moves = Moves(self.work.seed, self.sides)
        self.looks = Looks(self.forward.epsilon)
        self.halves: list[list[Row]] = []
        self.batch = -1

    @property
    def level(self) -> float | None:
        """The loss where the steps have led, as the parabolas have it."""
        return float(np.mean(self.taken.level)) if self.taken.level else None

    def take_up(self, taken: Taken | None) -> None:
        """Go on where a task stood."""
        if taken is None or len(taken.steps) > self.work.steps:
            return
        self.taken = taken
        self.looks.restore(taken.looks)
        for distance in taken.steps:
            self.moves.step(distance)
        if taken.steps:
            self._draw((len(taken.steps) - 1) // self.forward.fresh)

    def step(self) -> None:
        """Look along the next direction, and go."""
        done, taken = len(self.taken.steps), self.taken
        if done % self.forward.fresh == 0:
            self._draw(done // self.forward.fresh)
            taken.tokens += sum(row.targets for half in self.halves for row in half)
            taken.level = self._losses(self.moves.values()).tolist()
            if not done:
                taken.first = float(np.mean(taken.level))
                if not math.isfinite(taken.first):
                    raise DivergedError(
                        f"the loss is {taken.first} before the first step; the adapter or the base "
                        "is broken on this device."
                    )
        core = self.moves.core
        far = self.looks.distance(core)
        up, down = (self._losses(self.moves.along(sign * far)) for sign in (1.0, -1.0))
        step = self.looks.judge(core, np.array(taken.level), up, down)
        if self.moves.rms_along(step.distance) <= self.forward.reach:
            distance, taken.level = step.distance, step.level.tolist()
        else:
            distance = 0.0  # the hub would refuse it
        self.moves.step(distance)
        taken.steps.append(distance)
        taken.looks = self.looks.state()

    def last(self) -> float:
        """Return the loss of the first rows where the steps have led."""
        self._draw(0)
        loss = float(np.mean(self._losses(self.moves.values())))
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} after the last step; nothing of this training is sent."
            )
        return loss

    def _draw(self, batch: int) -> None:
        """Take a batch's rows, in halves."""
        drawn = drawn_rows(self.rows, self.work.batch, batch + 1, self.work.seed)
        rows = next(islice(drawn, batch, None))
        middle = (len(rows) + 1) // 2
        self.halves = [half for half in (rows[:middle], rows[middle:]) if half]

    def _losses(self, moves: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean loss per token of each half."""
        found = []
        for half in self.halves:
            loss = self.session.loss([(row.ids, row.labels) for row in half], moves)
            found.append(loss.total / loss.tokens if loss.tokens else math.nan)
        return np.array(found, dtype=np.float64)
