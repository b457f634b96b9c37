"""How a local task looks where it is piped, and on a terminal."""

import io
import logging

from rich.console import Console

from edge_agent.protocol import Counted, Progress
from edge_agent.train_view import Bar, Lines, Said, view_for
from wire.messages import DataSummary, Evaluation


def step(number: int, steps: int, loss: float = 2.0) -> Progress:
    return Progress(
        task="t", stage="train", step=number, steps=steps, loss=loss, tokens_per_step=100.0
    )


def test_a_long_training_is_told_in_about_ten_lines() -> None:
    stream = io.StringIO()
    view = Lines(stream)
    for number in range(1, 1001):
        view.progress(step(number, 1000))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "step 100 of 1000, loss 2.0000"
    assert lines[-1] == "step 1000 of 1000, loss 2.0000"
    assert len(lines) == 10


def test_the_last_step_is_always_told() -> None:
    stream = io.StringIO()
    view = Lines(stream)
    for number in (9, 10):  # what comes in between was not reported
        view.progress(step(number, 10))
    assert stream.getvalue().splitlines()[-1] == "step 10 of 10, loss 2.0000"


def test_a_second_worker_is_told_from_its_first_step() -> None:
    stream = io.StringIO()
    view = Lines(stream)
    view.progress(step(9, 10))
    view.progress(Progress(task="t", stage="load"))
    view.progress(step(1, 10))
    assert stream.getvalue().splitlines()[1:] == [
        "opening the base model",
        "step 1 of 10, loss 2.0000",
    ]


def test_text_and_held_out_losses_are_told() -> None:
    stream = io.StringIO()
    view = Lines(stream)
    view.counted(Counted(task="t", data=DataSummary(examples=40, held_out=3, skipped=2)))
    view.held_out(Evaluation(variant="base", loss=3.5, tokens=600))
    view.held_out(Evaluation(variant="adapter", loss=3.25, tokens=600))
    assert stream.getvalue().splitlines() == [
        "40 examples, 3 of them held out; 2 broken lines are skipped",
        "held-out loss before: 3.5000 (over 600 tokens)",
        "held-out loss after: 3.2500 (over 600 tokens)",
    ]


def test_a_stream_that_is_no_terminal_gets_lines() -> None:
    assert isinstance(view_for(io.StringIO()), Lines)


def test_a_terminal_shows_steps_loss_and_speed() -> None:
    stream = io.StringIO()
    times = iter(range(100))
    console = Console(
        file=stream, force_terminal=True, width=100, get_time=lambda: float(next(times))
    )
    view = Bar(console)
    view.progress(Progress(task="t", stage="load"))
    view.progress(step(0, 20))
    for number in (5, 10, 15):
        view.progress(step(number, 20, loss=1.5))
    view.say("[said]")  # no markup: a path may have brackets
    view.close()
    shown = stream.getvalue()
    assert "[said]" in shown
    assert "training" in shown
    assert "step 15 of 20, loss 1.5000" in shown
    assert "tokens/s" in shown


def test_what_is_logged_is_shown_and_warnings_as_such() -> None:
    stream = io.StringIO()
    handler = Said(Lines(stream))
    for level, text in ((logging.INFO, "measuring"), (logging.WARNING, "no space")):
        handler.handle(logging.LogRecord("edge_agent.x", level, "", 0, "%s", (text,), None))
    assert stream.getvalue().splitlines() == ["measuring", "warning: no space"]
