import time

import pytest

from hub.api.control import Member
from hub.cli.output import age, loss, print_table, printable, size, updates


def test_sizes_are_shown_in_the_unit_that_suits() -> None:
    assert [size(n) for n in (None, 0, 999, 1000, 612_400_000, 24_500_000_000)] == [
        None,
        "0 B",
        "999 B",
        "1 kB",
        "612 MB",
        "24.5 GB",
    ]


def test_losses_have_four_digits() -> None:
    assert (loss(2.0), loss(None)) == ("2.0000", None)


def test_ages_are_rounded_down_and_never_negative() -> None:
    now = time.time()
    ages = [age(now - s) for s in (-50, 119.5, 121, 7300, 200_000)]
    assert ages == ["0 s ago", "119 s ago", "2 min ago", "2 h ago", "2 d ago"]
    assert age(0) is None


def test_a_device_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[31mb\x07é\n") == "a\ufffd[31mb\ufffdé\n"
    print_table("", ["reason"], [["\x1b[2J[red]x[/red]"]])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]x[/red]" in out


def test_who_infers_counts_among_those_that_train_once_it_was_given_steps() -> None:
    idle = Member(device="a", role="infer", rung="infer")
    looks = Member(device="b", role="infer", rung="forward-only", steps=140, update_bytes=286)
    assert updates([idle, looks]) == "1 of 1"
