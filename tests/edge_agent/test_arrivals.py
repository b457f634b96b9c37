"""The link's rate: by hand."""

from edge_agent.arrivals import LEAST_BYTES, Arrivals

CHUNK = LEAST_BYTES // 4


def test_the_first_message_starts_the_clock_and_is_not_counted() -> None:
    arrivals = Arrivals()
    for second in range(4):
        arrivals.came(CHUNK, second)
    assert arrivals.bytes_per_s is None  # three chunks are counted
    arrivals.came(CHUNK, 4)
    assert arrivals.bytes_per_s == CHUNK  # four in four seconds


def test_a_pause_is_not_the_links_fault() -> None:
    arrivals = Arrivals()
    for second in (0, 1, 2):
        arrivals.came(CHUNK, second)
    arrivals.pause()
    for second in (100, 102, 104, 106, 108):
        arrivals.came(CHUNK, second)
    assert arrivals.bytes_per_s == CHUNK / 2


def test_nor_is_an_outage() -> None:
    arrivals = Arrivals()
    for second in (0, 1, 2, 602, 603, 604, 605, 606):
        arrivals.came(CHUNK, second)
    assert arrivals.bytes_per_s == CHUNK


def test_the_median_of_the_last_stretches_counts() -> None:
    arrivals = Arrivals()
    now = 0.0
    arrivals.came(1, now)
    for seconds in (25, 1, 1, 2, 4, 4):  # the first is one too long ago
        now += seconds
        arrivals.came(LEAST_BYTES, now)
    assert arrivals.bytes_per_s == LEAST_BYTES / 2
