"""What a job does when its round can't be combined now, and how it tells its end."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from hub.aggregation.contract import AggregationError
from hub.rounds.actions import Combine, EndJob, Publish
from hub.rounds.events import Published
from hub.rounds.job_run import COMBINE_AGAIN_S, JobRun
from hub.rounds.state import JobState

ACTION = Combine(round=3, start="a" * 64, updates=())


class Run(SimpleNamespace):
    """As much of a job as combining looks at; the work never runs, its outcome is given."""

    def __init__(self) -> None:
        self.clock, self.begun, self.recorded = 0.0, [], []
        desk = SimpleNamespace(
            now=lambda: self.clock,
            blobs=None,
            adapters=None,
            background=lambda _work, then, **_: self.begun.append(then),
        )
        super().__init__(
            name="j", over=False, desk=desk, state=JobState(), strategy=None, _start=None,
            _combining=None, _combine_at=0.0, _publish_at=0.0, _exporting=False,
            record=self.recorded.append, drive=lambda: None,
            file=SimpleNamespace(rule="stack_svd", codec="auto"), _own=None,
            spec=SimpleNamespace(texts={}, seed=7), _forget=lambda blobs: None,
        )  # fmt: skip

    def combine(self) -> None:
        run: Any = self
        JobRun._combine(run, ACTION)

    def publish(self) -> None:
        run: Any = self
        self.desk.link = SimpleNamespace(connected=True)
        self._export = lambda _manifest: None
        self.broadcast = lambda _manifest: None
        JobRun._publish(run, Publish(round=3, manifest="b" * 64))


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), MemoryError()])
def test_a_full_disk_or_memory_ends_no_round(
    trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run()
    run.combine()
    with caplog.at_level(logging.WARNING):
        run.begun[0](trouble)
    assert run.recorded == []
    assert "round 3 can't be combined" in caplog.text
    run.combine()
    assert len(run.begun) == 1, "not at once"
    run.clock += COMBINE_AGAIN_S
    run.combine()
    assert len(run.begun) == 2


@pytest.mark.parametrize("trouble", [AggregationError("no"), FileNotFoundError(2, "gone")])
def test_what_does_not_pass_by_itself_is_recorded(trouble: Exception) -> None:
    run = Run()
    run.combine()
    run.begun[0](trouble)
    assert [one.reason for one in run.recorded] == [f"{type(trouble).__name__}: {trouble}"]


def test_an_export_waits_for_a_disk_that_is_full_and_for_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run()
    run.publish()
    run.publish()
    assert len(run.begun) == 1, "it is under way"
    run.begun[0](OSError(28, "No space left on device"))
    assert run.recorded == []
    run.publish()
    assert len(run.begun) == 1, "not at once"
    run.clock += COMBINE_AGAIN_S
    run.publish()
    run.begun[1](FileNotFoundError(2, "the base is gone"))
    assert "is not exported: [Errno 2] the base is gone" in caplog.text
    assert run.recorded == [Published(round=3)], "devices need no export"


@pytest.mark.parametrize(("known", "lines"), [(False, 1), (True, 0)])
def test_an_end_is_said_once_whatever_restarts_come_after_it(
    caplog: pytest.LogCaptureFixture, known: bool, lines: int
) -> None:
    written: list[tuple[str, str]] = []
    run: Any = SimpleNamespace(
        name="j", _ended=False, _known_over=known, stop_work=lambda: None,
        desk=SimpleNamespace(store=SimpleNamespace(status=lambda *what: written.append(what))),
    )  # fmt: skip
    end = EndJob(phase="done", reason="all rounds")
    with caplog.at_level(logging.INFO):
        JobRun._end(run, end)
        JobRun._end(run, end)
    assert len(caplog.records) == lines
    assert written == [("j", "done")], "a kill may have come between the event and this"
