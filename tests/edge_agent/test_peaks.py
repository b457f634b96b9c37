"""Predicted and measured peaks: kept over restarts, bounded, and never in the way."""

from pathlib import Path

import pytest

from edge_agent.peaks import KEPT, TOLD, Peaks, peak_of
from wire.messages import RungPlan

LINE = RungPlan(
    role="lora", rung="streamed", rank=8, batch=1, seq_len=256, predicted_peak_bytes=440, fits=True
)


def test_the_error_is_predicted_over_measured_less_one() -> None:
    peak = peak_of("j.1.a", LINE, 400, 500)
    assert peak.error == pytest.approx(0.1)
    assert (peak.rung, peak.limit_bytes) == ("streamed", 500)
    assert (peak.predicted_peak_bytes, peak.measured_peak_bytes) == (440, 400)
    assert peak_of("j.1.a", LINE, 0, 500).error == 0.0  # nothing was measured


def test_they_outlive_the_agent_and_the_newest_are_told(tmp_path: Path) -> None:
    peaks = Peaks(tmp_path / "peaks.json")
    for number in range(KEPT + 5):
        peaks.add(peak_of(f"j.{number}.a", LINE, 400, 500))
    again = Peaks(tmp_path / "peaks.json")
    assert again.all == peaks.all
    assert len(again.all) == KEPT
    newest = [f"j.{KEPT + 5 - TOLD + n}.a" for n in range(TOLD)]
    assert [peak.task for peak in again.tell()] == newest


def test_each_is_told_once(tmp_path: Path) -> None:
    peaks = Peaks(tmp_path / "peaks.json")
    peaks.add(peak_of("j.1.a", LINE, 400, 500))
    assert [peak.task for peak in peaks.tell()] == ["j.1.a"]
    assert peaks.tell() == []
    peaks.add(peak_of("j.2.a", LINE, 400, 500))
    assert [peak.task for peak in peaks.tell()] == ["j.2.a"]


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"task": 1}]', b"\xff\x00"])
def test_a_broken_file_counts_as_empty(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "peaks.json"
    file.write_bytes(content)
    peaks = Peaks(file)
    assert peaks.all == []
    assert "passed over" in caplog.text
    peaks.add(peak_of("j.1.a", LINE, 400, 500))
    assert len(Peaks(file).all) == 1


def test_a_disk_that_takes_nothing_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    peaks = Peaks(tmp_path / "absent" / "peaks.json")
    peaks.add(peak_of("j.1.a", LINE, 400, 500))
    assert len(peaks.tell()) == 1
    assert "can't be written" in caplog.text
