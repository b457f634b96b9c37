"""Training without backprop, on losses that are known functions of the cores' moves."""

import subprocess
import sys
from array import array

import msgspec
import numpy as np
import pytest

from edge_agent.errors import AgentError, DataError
from edge_agent.loss import Loss
from edge_agent.training.errors import DivergedError, PausedError
from edge_agent.training.forward_only import train
from edge_agent.training.steps_file import StepsFile
from edge_agent.training.tokens import Row
from wire.forward_only import VERSION, pack_steps, replay
from wire.messages import ForwardOnly, LocalWork

FORWARD = ForwardOnly(version=VERSION, epsilon=0.01, fresh=3, reach=1.0)
WORK = LocalWork(
    steps=24, batch=4, seq_len=8, optimizer="adamw", lr=0.0, seed=11, forward=FORWARD
)  # fmt: skip
SIDES = [2, 1]
ROWS = [Row(array("i", [at, 1, 2]), array("i", [at, 1, 2])) for at in range(8)]


class Bowl:
    """A loss that is lowest where the cores have moved to a target; rows differ a little."""

    def __init__(self, spread=0.0, value=None):
        self.target = np.array([0.3, -0.2, 0.1, 0.4, -0.5])
        self.steepness = np.array([1.0, 30.0, 3.0, 10.0, 0.3])
        self.spread, self.value, self.calls = spread, value, 0

    def loss(self, rows, moves):
        self.calls += 1
        if self.value is not None:
            return Loss(self.value, 1)
        off = moves.astype(np.float64) - self.target
        total = sum(
            2.0 + float(self.steepness @ (off + self.spread * (ids[0] % 2 - 0.5)) ** 2) / 2
            for ids, _ in rows
        )
        return Loss(2 * total, 2 * len(rows))

    def close(self):
        pass


def run(session, work=WORK, **more):
    seen = []
    done = train(session, ROWS, SIDES, work, lambda *told: seen.append(told), **more)
    return done, seen


def test_it_goes_down_to_the_lowest_point():
    work = msgspec.structs.replace(WORK, steps=400)
    done, _ = run(Bowl(), work)
    moves = replay(WORK.seed, SIDES, done.steps)
    np.testing.assert_allclose(moves.values(), Bowl().target, atol=0.02)
    assert done.metrics.loss_first > 3.0
    assert done.metrics.loss_last == pytest.approx(2.0, abs=1e-3)


def test_a_direction_takes_two_losses_of_each_half_and_new_rows_one_more():
    session = Bowl()
    done, seen = run(session)
    # 24 directions, rows anew before every third, and the first ones again in the end.
    assert session.calls == 2 * (2 * 24 + 8 + 1)
    assert [step for step, _ in seen] == list(range(1, 25))
    assert done.metrics.tokens == 8 * 4 * 2  # each batch counts once: 4 rows with 2 predicted
    assert len(pack_steps(done.steps)) == 6 + 2 * 24


def test_the_parabolas_know_the_loss_where_they_led():
    done, seen = run(Bowl())
    moves = replay(WORK.seed, SIDES, done.steps).values()
    assert seen[-1][1] == pytest.approx(Bowl().loss([([0], [0])], moves).total / 2, abs=1e-3)


def test_a_paused_task_goes_on_to_the_same_steps(tmp_path):
    whole, _ = run(Bowl(0.1))
    kept = StepsFile(tmp_path / "steps", "j.1.a")
    polls = iter([False] * 10 + [True])
    with pytest.raises(PausedError) as paused:
        run(Bowl(0.1), kept=kept, pause_asked=lambda: next(polls))
    assert paused.value.step == 10
    again, seen = run(Bowl(0.1), kept=StepsFile(tmp_path / "steps", "j.1.a"))
    assert again.steps == whole.steps
    assert again.metrics.tokens == whole.metrics.tokens
    assert again.metrics.loss_first == whole.metrics.loss_first
    assert seen[0][0] == 11


def test_steps_of_another_task_are_passed_over(tmp_path):
    kept = StepsFile(tmp_path / "steps", "j.1.a")
    polls = iter([False, True])
    with pytest.raises(PausedError):
        run(Bowl(), kept=kept, pause_asked=lambda: next(polls))
    _, seen = run(Bowl(), kept=StepsFile(tmp_path / "steps", "j.2.a"))
    assert seen[0][0] == 1


def test_no_core_goes_further_than_the_hub_accepts():
    near = msgspec.structs.replace(FORWARD, reach=0.05)
    done, _ = run(Bowl(), msgspec.structs.replace(WORK, forward=near))
    assert 0.0 < replay(WORK.seed, SIDES, done.steps).rms() <= 0.05


def test_a_loss_that_is_no_number_from_the_start_is_told():
    with pytest.raises(DivergedError, match="nan"):
        run(Bowl(value=float("nan")))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_in_the_end_is_told(value):
    class Breaks(Bowl):
        def loss(self, rows, moves):
            found = super().loss(rows, moves)
            return Loss(value, 1) if self.calls > 2 * (2 * 24 + 8) else found

    with pytest.raises(DivergedError, match=f"{value} after the last step"):
        run(Breaks())


def test_without_rows_there_is_nothing_to_train_on():
    with pytest.raises(DataError):
        train(Bowl(), [], SIDES, WORK, lambda *_: None)


@pytest.mark.parametrize("forward", [None, msgspec.structs.replace(FORWARD, version=VERSION + 1)])
def test_a_scheme_that_is_not_known_is_refused(forward):
    with pytest.raises(AgentError, match="Update the older side"):
        run(Bowl(), msgspec.structs.replace(WORK, forward=forward))


def test_a_broken_file_of_steps_is_passed_over(tmp_path):
    (tmp_path / "steps").write_bytes(b"{")
    assert StepsFile(tmp_path / "steps", "j.1.a").load() is None


def test_no_torch_is_needed():
    code = (
        "import sys, edge_agent.training.forward_task;"
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
