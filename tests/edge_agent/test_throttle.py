"""A download takes its bytes over the limit, and stops where the day does."""

import pytest

from edge_agent.throttle import DayUsedUpError, Throttle


class Time:
    """A clock that sleeping moves on."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def read_all(throttle: Throttle, size: int) -> int:
    pieces = 0
    while size > 0:
        size -= throttle.next_piece(size)
        pieces += 1
    return pieces


def test_without_a_limit_large_pieces_go_at_once() -> None:
    time = Time()
    assert read_all(Throttle(clock=time, sleep=time.sleep), 2**20) == 4
    assert time.now == 50.0


@pytest.mark.parametrize("rate", [1000.0, 31_250.0, 10e6])
def test_a_limit_is_kept(rate: float) -> None:
    time = Time()
    read_all(Throttle(rate, clock=time, sleep=time.sleep), 1_000_000)
    assert time.now - 50.0 == pytest.approx(1_000_000 / rate)


def test_only_so_many_bytes_pass() -> None:
    throttle = Throttle(most_bytes=300_000)
    assert throttle.next_piece(1_000_000) == 262_144
    with pytest.raises(DayUsedUpError, match=r"after 262144 .*00:00 UTC"):
        throttle.next_piece(737_856)
    assert throttle.next_piece(30_000) == 30_000
    assert throttle.passed_bytes == 292_144
