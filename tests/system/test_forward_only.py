"""A device with memory for inference alone trains all the same, in a real job."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.hub_process import HubProcess
from tests.system.small_base import job_text
from tests.system.test_agents import await_end, limits, planned

pytestmark = [pytest.mark.broker, pytest.mark.slow]

STEPS = 60
SHAPE: dict[str, Any] = {
    "method": "lora",
    "lora": {"rank": 16, "min_rank": 16},
    "local": {
        "steps": 3,
        "batch": 32,
        "min_batch": 32,
        "seq_len": 256,
        "min_seq_len": 256,
        "lr": 0.02,
        "forward": {"steps": STEPS, "batch": 4, "side": 2},
    },
    "rounds": 2,
}


def test_a_device_that_can_only_infer_trains_without_backprop(
    hub: HubProcess, broker: Mosquitto, tmp_path: Path
) -> None:
    base = write_trainable_base(tmp_path / "model")
    data = write_data(tmp_path / "private.jsonl", marker="m")
    memory = limits(planned(base))["small"]
    with AgentProcess(tmp_path / "agent", broker.url, "kiosk", data, memory) as agent:
        hub.submit(job_text("forward", base, **SHAPE))
        job = await_end(hub, "forward")
        assert job.summary.phase == "done", (job.summary, agent.log[-3000:])
        for round_ in job.rounds:
            (member,) = round_.members
            assert (member.role, member.rung) == ("infer", "forward-only")
            assert (member.rank, member.steps, member.state) == (2, STEPS, "delivered")
            assert member.update_bytes == 6 + 2 * STEPS
        assert job.loss_after["kiosk"] < job.loss_before["kiosk"]
