"""Termux's program is a process: it is started rarely, and never waited for without end."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe import termux
from edge_agent.probe.reading import UnreadableError
from edge_agent.probe.termux import FRESH_S, RETRY_S, TermuxBattery
from tests.system.hub_process import poll

Tree = Callable[[dict[str, str]], Path]
PROGRAM = "bin/termux-battery-status"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def script(folder: Path, body: str) -> dict[str, str]:
    return {PROGRAM: f"#!/bin/sh\necho asked >> {folder}/asked\n{body}\n"}


def asked(folder: Path) -> int:
    return (folder / "asked").read_text().count("asked")


def test_an_answer_is_used_for_a_minute(tree: Tree, tmp_path: Path) -> None:
    tree(script(tmp_path, """echo '{"percentage": 63, "plugged": "PLUGGED_AC"}'"""))
    clock = Clock()
    phone = TermuxBattery(clock)
    for _ in range(20):
        assert phone.status().percentage == 63
    clock.now_s += FRESH_S - 1
    phone.status()
    assert asked(tmp_path) == 1
    clock.now_s += 1
    phone.status()
    assert asked(tmp_path) == 2


def test_a_failure_is_not_repeated_for_ten_minutes(tree: Tree, tmp_path: Path) -> None:
    tree(script(tmp_path, "exit 3"))
    clock = Clock()
    phone = TermuxBattery(clock)
    for _ in range(5):
        with pytest.raises(UnreadableError, match="ended with code 3"):
            phone.status()
        clock.now_s += RETRY_S / 5 - 1
    assert asked(tmp_path) == 1
    clock.now_s += 5
    with pytest.raises(UnreadableError):
        phone.status()
    assert asked(tmp_path) == 2


def test_a_program_that_never_answers_is_ended_with_all_that_it_started(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(termux, "_TIMEOUT_S", 0.2)
    never = tmp_path / "never"
    os.mkfifo(never)
    wait = f"while :; do read x < {never}; done"
    tree(script(tmp_path, f"({wait}) & {wait}"))
    with pytest.raises(UnreadableError, match="Termux:API"):
        TermuxBattery().status()
    poll("the end of both", lambda: not is_read(never))


def is_read(fifo: Path) -> bool:
    """Return whether a process waits to read from a pipe: fifo(7)."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        assert error.errno == errno.ENXIO
        return False
    return True


@pytest.mark.parametrize(
    "output",
    ["", "null", "{}", "[1]", '{"percentage": "x"}', '{"percentage": 250}', '{"percentage": -1}'],
)
def test_what_is_no_status_is_refused(tree: Tree, tmp_path: Path, output: str) -> None:
    tree(script(tmp_path, f"echo '{output}'"))
    with pytest.raises(UnreadableError, match="termux-battery-status"):
        TermuxBattery().status()


@pytest.mark.parametrize(
    ("text", "temperature_c"),
    [('"22.3"', 22.3), ("22.3", 22.3), ("0", 0.0), ("null", None), ('"nan"', None), ("1e9", None)],
)
def test_older_versions_write_the_temperature_as_a_string(
    tree: Tree, tmp_path: Path, text: str, temperature_c: float | None
) -> None:
    tree(script(tmp_path, f"""echo '{{"percentage": 5, "temperature": {text}}}'"""))
    assert TermuxBattery().status().temperature_c() == temperature_c


def test_without_the_program_the_reason_is_said(tree: Tree) -> None:
    tree({})
    with pytest.raises(UnreadableError, match="not on PATH"):
        TermuxBattery().status()
