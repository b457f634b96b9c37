"""The day's bytes: counted before they go, kept over restarts, fresh each day and only then."""

import datetime
from pathlib import Path

import msgspec
import pytest

from edge_agent.data_cap import CHUNK_COST_BYTES, RESERVE, DataCap

#: 2026-11-21, 12:00:00 UTC.
NOON = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC).timestamp()
CAP = 10_000_000


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_taken_is_in_the_file_before_it_goes(tmp_path: Path, clock: Clock) -> None:
    cap = DataCap(tmp_path / "cap.json", CAP, clock)
    assert cap.take(70_000)
    assert msgspec.json.decode((tmp_path / "cap.json").read_bytes()) == {"2026-11-21": 70_000}


def test_a_start_goes_on_counting(tmp_path: Path, clock: Clock) -> None:
    DataCap(tmp_path / "cap.json", CAP, clock).take(6_000_000)
    again = DataCap(tmp_path / "cap.json", CAP, clock)
    assert again.used_bytes == 6_000_000
    assert not again.take(6_000_000)
    assert again.take(3_000_000)


def test_chunks_stop_a_hundredth_before_the_cap(tmp_path: Path, clock: Clock) -> None:
    cap = DataCap(tmp_path / "cap.json", CAP, clock)
    moved = 0
    while not cap.exhausted:
        assert cap.take(CHUNK_COST_BYTES)
        moved += CHUNK_COST_BYTES
    assert 0.99 * CAP - CHUNK_COST_BYTES < moved <= 0.99 * CAP == (1 - RESERVE) * CAP
    assert not cap.take(CHUNK_COST_BYTES)
    assert cap.used_bytes == moved


def test_small_messages_are_counted_even_then(tmp_path: Path, clock: Clock) -> None:
    cap = DataCap(tmp_path / "cap.json", CAP, clock)
    cap.take(9_900_000)
    cap.count(500)
    assert cap.used_bytes == 9_900_500


def test_a_kill_loses_a_few_small_messages_at_most(tmp_path: Path, clock: Clock) -> None:
    cap = DataCap(tmp_path / "cap.json", CAP, clock)
    for _ in range(1000):
        cap.count(300)
        assert cap.used_bytes - DataCap(tmp_path / "cap.json", CAP, clock).used_bytes <= 16_384


def test_a_new_day_begins_at_midnight_utc(tmp_path: Path, clock: Clock) -> None:
    cap = DataCap(tmp_path / "cap.json", CAP, clock)
    cap.take(9_900_000)
    clock.now += 12 * 3600 - 1
    assert cap.exhausted
    clock.now += 1
    assert not cap.exhausted
    assert cap.used_bytes == 0


def test_a_clock_that_is_wrong_after_each_start_gives_no_fresh_cap(
    tmp_path: Path, clock: Clock
) -> None:
    """A board without a clock believes in 1970 until it has heard the time."""
    used = 0
    for _ in range(5):
        clock.now = 100.0
        cap = DataCap(tmp_path / "cap.json", CAP, clock)
        used += 3_000_000 if cap.take(3_000_000) else 0
        clock.now = NOON
        used += 3_000_000 if cap.take(3_000_000) else 0
    assert used <= 2 * CAP


def test_only_the_last_days_are_kept(tmp_path: Path, clock: Clock) -> None:
    cap = DataCap(tmp_path / "cap.json", CAP, clock)
    for _ in range(20):
        cap.take(1)
        clock.now += 86_400
    kept = msgspec.json.decode((tmp_path / "cap.json").read_bytes(), type=dict[str, int])
    assert next(iter(kept)) == "2026-12-03"
    assert len(kept) == 8


@pytest.mark.parametrize("content", [b"", b"nonsense", b'{"2026-11-21": "many"}'])
def test_a_damaged_file_counts_as_empty_and_is_said(
    tmp_path: Path, clock: Clock, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cap.json").write_bytes(content)
    assert DataCap(tmp_path / "cap.json", CAP, clock).used_bytes == 0
    assert "passed over" in caplog.text


def test_a_hundredth_of_the_cap_is_synced_at_a_time(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    monkeypatch.setattr("os.fsync", syncs.append)
    cap = DataCap(tmp_path / "cap.json", CAP, clock)
    for _ in range(50):
        cap.take(10_000)  # half a megabyte in all: five hundredths
    assert len(syncs) == 5
