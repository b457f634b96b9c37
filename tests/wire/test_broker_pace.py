"""The pace of a service: never more than it takes in any one second, and no slower than needed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.broker_pace import Pace


def send_all(pace: Pace, sizes: list[int], gaps_s: list[float]) -> list[tuple[float, int]]:
    """Return when each packet goes that is offered a gap after the one before it had gone."""
    now, sent = 1000.0, []
    for size, gap_s in zip(sizes, gaps_s, strict=True):
        now += gap_s
        while (wait_s := pace.wait_s(size, now)) > 0:
            now += wait_s
        pace.sent(size, now)
        sent.append((now, size))
    return sent


packets = st.lists(st.tuples(st.integers(1, 700), st.floats(0, 1.5)), min_size=1, max_size=60)


@given(packets)
def test_no_second_holds_more_than_the_service_takes(given_: list[tuple[int, float]]) -> None:
    sizes, gaps = [size for size, _ in given_], [gap for _, gap in given_]
    sent = send_all(Pace(5, 1000), sizes, gaps)
    for begin, _ in sent:
        within = [size for at, size in sent if begin <= at < begin + 1 - 1e-9]
        assert len(within) <= 5
        assert sum(within) <= 1000


def test_what_fits_goes_at_once_and_the_next_waits_for_the_first_to_be_a_second_old() -> None:
    pace = Pace(2, None)
    assert pace.wait_s(1, 10.0) == 0
    pace.sent(1, 10.0)
    assert pace.wait_s(1, 10.25) == 0
    pace.sent(1, 10.25)
    assert pace.wait_s(1, 10.5) == pytest.approx(0.5)
    assert pace.wait_s(1, 11.0) == 0


def test_bytes_are_waited_for_until_there_is_room() -> None:
    pace = Pace(None, 100)
    pace.sent(60, 10.0)
    pace.sent(30, 10.5)
    assert pace.wait_s(10, 10.5) == 0
    assert pace.wait_s(40, 10.5) == pytest.approx(0.5)  # once the 60 are a second old
    assert pace.wait_s(80, 10.5) == pytest.approx(1.0)  # once both are


def test_a_packet_larger_than_a_seconds_worth_goes_alone() -> None:
    pace = Pace(None, 100)
    assert pace.wait_s(500, 10.0) == 0
    pace.sent(500, 10.0)
    assert pace.wait_s(1, 10.9) == pytest.approx(0.1)


def test_without_a_limit_nothing_waits_and_nothing_is_kept() -> None:
    pace = Pace(None, None)
    for number in range(1000):
        pace.sent(10**6, 10.0)
        assert pace.wait_s(10**6, 10.0) == 0, number
    assert len(pace._sent) == 0
