"""How a local task looks while it runs: lines where it is piped, a bar on a terminal."""

import logging
from typing import TYPE_CHECKING, TextIO

from edge_agent.data_words import counted_words
from edge_agent.protocol import Counted, Progress
from wire.messages import Evaluation

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_STAGES = {
    "load": "opening the base model",
    "evaluate": "measuring the held-out loss",
    "write": "writing the adapter",
}
#: Lines of progress that a whole training makes where it is piped.
_LINES = 10


class Lines:
    """One line for each thing that happens.

    Args:
        stream: where they go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told_step = 0

    def say(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def warn(self, text: str) -> None:
        self.say(f"warning: {text}")

    def counted(self, event: Counted) -> None:
        self.say(counted_words(event.data))

    def held_out(self, evaluation: Evaluation) -> None:
        self.say(held_out_text(evaluation))

    def progress(self, event: Progress) -> None:
        if event.stage != "train":
            self.say(_STAGES.get(event.stage, event.stage))
            self._told_step = 0
        elif event.loss is not None and self._is_worth_a_line(event):
            self._told_step = event.step
            self.say(f"step {event.step} of {event.steps}, loss {event.loss:.4f}")

    def close(self) -> None:
        """Nothing is left on the screen."""

    def _is_worth_a_line(self, event: Progress) -> bool:
        return event.step == event.steps or event.step >= self._told_step + event.steps / _LINES


class Bar:
    """A progress bar with loss, speed and the time that is left.

    Args:
        console: of a terminal.
    """

    def __init__(self, console: "Console") -> None:
        from rich import progress

        self._console = console
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[told]}"),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._stage = ""
        self._task: TaskID | None = None

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def warn(self, text: str) -> None:
        self._console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)

    def counted(self, event: Counted) -> None:
        self.say(counted_words(event.data))

    def held_out(self, evaluation: Evaluation) -> None:
        self.say(held_out_text(evaluation))

    def progress(self, event: Progress) -> None:
        if self._task is None or event.stage != self._stage:
            self._begin(event)
        if self._task is not None:
            self._bar.update(self._task, completed=event.step, told=self._told(event))

    def close(self) -> None:
        """Take the bar from the screen."""
        self._bar.stop()
        self._take_away()

    def _begin(self, event: Progress) -> None:
        """Show another stage; only training knows how long it takes."""
        self._take_away()
        self._stage = event.stage
        text = "training" if event.stage == "train" else _STAGES.get(event.stage, event.stage)
        self._task = self._bar.add_task(text, total=event.steps or None, told="")
        self._bar.start()

    def _take_away(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = None

    def _told(self, event: Progress) -> str:
        if event.loss is None:
            return ""
        steps_a_second = self._bar.tasks[0].speed
        speed = f", {steps_a_second * event.tokens_per_step:.0f} tokens/s" if steps_a_second else ""
        return f"step {event.step} of {event.steps}, loss {event.loss:.4f}{speed}"


def view_for(stream: TextIO) -> "Lines | Bar":
    """Return what suits a stream: rich is only imported for a terminal, where it is of use."""
    if not stream.isatty():
        return Lines(stream)
    from rich.console import Console

    return Bar(Console(file=stream))


class Said(logging.Handler):
    """Shows what the agent's parts log: that the device is measured, what keeps the limit.

    Args:
        view: where.
    """

    def __init__(self, view: "Lines | Bar") -> None:
        super().__init__(logging.INFO)
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        tell = self._view.warn if record.levelno >= logging.WARNING else self._view.say
        tell(record.getMessage())


def held_out_text(evaluation: Evaluation) -> str:
    """Say a loss on held-out text."""
    when = "before" if evaluation.variant == "base" else "after"
    return f"held-out loss {when}: {evaluation.loss:.4f} (over {evaluation.tokens} tokens)"
