"""Real agents with limits: they announce them, keep out of the broadcast, and sleep when it's over.

What the limits are worth to the byte is tested in `test_limits.py`.
"""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.api.control import ENDED
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.messages import BlobGet, DeviceEvent, DeviceInfo, DeviceState

pytestmark = [pytest.mark.broker, pytest.mark.slow]

CAP = 20_000_000
SHAPE: dict[str, Any] = {
    "lora": {"rank": 4, "min_rank": 4},
    "local": {"steps": 2, "batch": 2, "min_batch": 2, "seq_len": 64, "min_seq_len": 64},
    "cohort": {"min": 1, "max": 9},
    "rounds": 1,
}


class MeteredAgent(AgentProcess):
    """An agent with all three limits."""

    def __init__(self, folder: Path, broker: str, device: str) -> None:
        super().__init__(folder, broker, device, write_data(folder / "my.jsonl", marker="text"))
        self._command += ["--up-limit", "4mbit", "--down-limit", "8mbit/s", "--data-cap", "20MB"]


@pytest.fixture
def tap(broker: Mosquitto) -> Iterator[Wiretap]:
    with Wiretap(broker.url) as listening:
        yield listening


def test_a_limited_agent_asks_for_its_chunks_and_serves_a_round(
    tmp_path: Path, broker: Mosquitto, hub: HubProcess, tap: Wiretap
) -> None:
    with MeteredAgent(tmp_path / "ward", broker.url, "ward") as agent:
        hub.submit(job_text("metered", write_trainable_base(tmp_path / "base"), **SHAPE))
        info = tap.await_message(DeviceInfo, "ward")
        assert (info.up_limit_bits_per_s, info.down_limit_bits_per_s) == (4_000_000, 8_000_000)
        assert info.data_cap_bytes == CAP
        poll("the end", lambda: hub.job("metered").summary.phase in ENDED, 150)
        assert hub.accepted("metered") == [(1, "ward")], (hub.log[-3000:], agent.log)
        assert tap.messages(BlobGet, "ward")
        day = json.loads((agent.state / "data_cap.json").read_text())
    # The base, two adapters and an update went; so much was counted, and no more than twice that.
    [used] = day.values()
    base = sum(path.stat().st_size for path in (tmp_path / "base").iterdir())
    assert base < used < 2 * base + 1_000_000


def test_an_agent_whose_day_is_used_up_sleeps_and_the_hub_says_why(
    tmp_path: Path, broker: Mosquitto, hub: HubProcess, tap: Wiretap
) -> None:
    agent = MeteredAgent(tmp_path / "ward", broker.url, "ward")
    agent.state.mkdir(parents=True)
    today = datetime.datetime.now(datetime.UTC).date()
    days = {str(today + datetime.timedelta(days=n)): CAP - 210_000 for n in (0, 1)}
    (agent.state / "data_cap.json").write_text(json.dumps(days))
    with agent:
        state = tap.await_message(DeviceState, "ward", state="sleeping")
        assert state.reason is not None
        assert "19.8 MB of the day's 20 MB" in state.reason
        assert "19.8 MB" in tap.await_message(DeviceEvent, "ward", type="data-cap").detail
        hub.submit(job_text("later", write_trainable_base(tmp_path / "base"), **SHAPE))

        def waiting() -> bool:
            reason = hub.job("later").summary.reason or ""
            return "ward: rests: 19.8 MB of the day's 20 MB" in reason

        poll("the hub's word", waiting, 60)
        assert not tap.messages(BlobGet, "ward")
