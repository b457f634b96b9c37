"""What anybody can cause is said once, with a count."""

import logging

import pytest

from wire.quiet_log import MAX_SUBJECTS, PAUSE_S, Printable, QuietLog


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_repeated_message_is_counted_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    quiet = QuietLog(logging.getLogger("test"), clock)
    for _ in range(500):
        quiet.warn("cam-7", "nonsense")
    assert lines(caplog) == ["nonsense"]
    clock.now += PAUSE_S
    quiet.warn("cam-7", "nonsense")
    assert lines(caplog)[1:] == ["nonsense (499 more like this)"]


def test_the_trace_of_an_error_is_logged_with_it(caplog: pytest.LogCaptureFixture) -> None:
    quiet = QuietLog(logging.getLogger("test"), Clock())
    for _ in range(3):
        try:
            raise KeyError("round")
        except KeyError as error:
            quiet.warn("cam-7", "could not be handled", error)
    assert lines(caplog) == ["could not be handled"]
    assert "in test_the_trace_of_an_error_is_logged_with_it" in caplog.text
    assert "KeyError: 'round'" in caplog.text


def test_subjects_do_not_silence_one_another(caplog: pytest.LogCaptureFixture) -> None:
    quiet = QuietLog(logging.getLogger("test"), Clock())
    quiet.warn("a", "one")
    quiet.warn("b", "two")
    assert lines(caplog) == ["one", "two"]


def test_the_subjects_themselves_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    quiet = QuietLog(logging.getLogger("test"), Clock())
    for number in range(MAX_SUBJECTS + 500):
        quiet.warn(f"device {number}", "x")
    assert len(caplog.records) == MAX_SUBJECTS + 1


def test_a_message_can_not_write_lines_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    QuietLog(logging.getLogger("test"), Clock()).warn("a", "x\n12:00 INFO all is well" + "y" * 999)
    [line] = lines(caplog)
    assert "\n" not in line
    assert len(line) < 400


def test_what_a_peer_says_forges_no_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(Printable())
    logging.getLogger("test").warning("cancelled: %s", "no\n12:00:00 ERROR all is lost\x00")
    assert caplog.text.splitlines()[-1].endswith("cancelled: no?12:00:00 ERROR all is lost?")


def test_what_is_no_trouble_is_noted_once_as_well(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    quiet = QuietLog(logging.getLogger("test"), Clock())
    quiet.note("cam-7", "here")
    quiet.note("cam-7", "here again")
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [("INFO", "here")]
