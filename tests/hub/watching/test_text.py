import pytest

from hub.watching.text import blob_word, bytes_word, clock_word, loss_word, one_line

ESCAPE, C1, RIGHT_TO_LEFT = "\x1b", "\x9b", "\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ward", "ward"),
        ("Größe 5 €", "Größe 5 €"),
        (f"{ESCAPE}[2Jgone", "\ufffd[2Jgone"),
        (f"{C1}31mred", "\ufffd31mred"),
        (f"{RIGHT_TO_LEFT}drow", "\ufffddrow"),
        ("a\nb\r\tc", "a\ufffdb\ufffd\ufffdc"),
        ("bell\x07 null\0", "bell\ufffd null\ufffd"),
        ("[red]no markup[/]", "[red]no markup[/]"),
    ],
)
def test_no_text_steers_a_terminal_or_breaks_a_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_long_text_is_cut_to_the_limit() -> None:
    assert one_line("x" * 200) == "x" * 200
    assert one_line("x" * 201) == "x" * 197 + "..."
    assert one_line("abcdefgh", 5) == "ab..."


def test_bytes_have_decimal_units_and_impossible_ones_are_said_to_be() -> None:
    assert [bytes_word(n) for n in (0, 999, 84_112, 412_000_000)] == [
        "0 B", "999 B", "84 kB", "412 MB"
    ]  # fmt: skip
    assert bytes_word(-1) == bytes_word(10**4000) == "an impossible number of bytes"


def test_losses_have_four_digits_and_monstrous_ones_three() -> None:
    assert [loss_word(x) for x in (2.39116, -0.5, 1e308)] == ["2.3912", "-0.5000", "1e+308"]


def test_times_are_times_of_day() -> None:
    # Unix time 1,000,000,000 was 2001-09-09 01:46:40 UTC.
    assert clock_word(1e9) == "01:46:40"
    assert clock_word(0) == clock_word(-5.0) == clock_word(1e300) == "no known time"


def test_a_blob_is_named_by_eight_digits() -> None:
    assert blob_word("6f1c2a9e" + "0" * 56) == "blob 6f1c2a9e"
    assert blob_word("\x1b[2J") == "blob \ufffd[2J"
