"""Limits are kept to the byte: over a transfer, over a day, and from the first moment on."""

import random

import pytest

from wire.pacing import LATE_S, Pace, parse_rate

CHUNK = 65_600


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("250kbit", 250_000),
        ("1mbit", 1_000_000),
        ("1mbit/s", 1_000_000),
        (" 1.5 Mbit/s ", 1_500_000),
        ("2gbit", 2_000_000_000),
        ("64000bit", 64_000),
    ],
)
def test_rates_are_read(text: str, bits: int) -> None:
    assert parse_rate(text) == bits


@pytest.mark.parametrize("text", ["", "250", "kbit", "-1mbit", "1MB", "1e3kbit", "0kbit", "999bit"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"rate|slow"):
        parse_rate(text)


def drive(pace: Pace, count: int, tick_s: float, jitter: random.Random) -> list[float]:
    """Send so many chunks as a loop does that looks now and then; return when each one went."""
    now, gone = 1000.0, list[float]()
    while len(gone) < count:
        while len(gone) < count and pace.take(CHUNK, now):
            gone.append(now)
        now += tick_s * jitter.uniform(0.5, 1.0)
    return gone


@pytest.mark.parametrize("bits", [64_000, 250_000, 1_000_000, 10_000_000])
def test_a_transfer_takes_its_bytes_over_the_limit(bits: int) -> None:
    gone = drive(Pace(bits / 8), 100, 0.25, random.Random(1))
    took = gone[-1] - 1000.0
    wanted = 100 * CHUNK * 8 / bits
    assert wanted <= took <= wanted + 0.25  # a late look at the clock, once


def test_no_moment_has_seen_more_than_the_limit() -> None:
    gone = drive(Pace(250_000 / 8), 200, 0.25, random.Random(2))
    for number, at in enumerate(gone, start=1):
        assert number * CHUNK <= (at - 1000.0) * 31_250 + 1e-6


def test_a_day_of_transfers_with_pauses_stays_below_the_limit() -> None:
    pace, chance = Pace(31_250), random.Random(3)
    now, sent = 0.0, 0
    while now < 86_400:
        if chance.random() < 0.001:
            pace.pause()
            now += chance.uniform(0, 600)
        elif pace.take(CHUNK, now):
            sent += CHUNK
        else:
            now += 0.25
        assert sent <= now * 31_250 + 31_250 * LATE_S
    assert sent > 0


def test_a_full_day_uses_the_limit_to_the_last_chunk() -> None:
    pace, now, sent = Pace(31_250), 0.0, 0
    while now < 86_400:
        if pace.take(CHUNK, now):
            sent += CHUNK
        else:
            now += 0.25
    assert 86_400 * 31_250 - 2 * CHUNK <= sent <= 86_400 * 31_250


def test_nothing_is_saved_up_while_nothing_is_sent() -> None:
    pace = Pace(CHUNK)  # a chunk a second
    assert not pace.take(CHUNK, 0.0)
    assert pace.take(CHUNK, 1.0)
    assert not pace.take(CHUNK, 100.0)
    assert not pace.take(CHUNK, 100.9)
    assert pace.take(CHUNK, 101.0)


def test_small_messages_do_not_wait_but_are_paid_for() -> None:
    pace = Pace(1000.0)
    pace.charge(500, 0.0)
    assert pace.wait_s(1000, 0.0) == pytest.approx(1.5)
    pace.charge(250, 1.0)
    assert not pace.take(1000, 1.7)
    assert pace.take(1000, 1.75)


def test_without_a_limit_everything_goes_at_once() -> None:
    pace = Pace(None)
    pace.charge(10**9, 0.0)
    assert pace.take(10**9, 0.0)
    assert pace.wait_s(10**9, 0.0) == 0.0
