"""A device whose worker is two processes takes part in a federation as any other does."""

from pathlib import Path

import pytest

from hub.api.control import ENDED
from hub.cli.client import HubClient
from tests.conftest import Mosquitto
from tests.silo_config import write_silo_config
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess, is_gone
from tests.system.hub_process import HubProcess, poll
from tests.system.site import LOCAL
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.messages import DeviceInfo

MEMORY_BYTES = 8_000_000_000

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_a_silo_is_one_device_of_a_round(tmp_path: Path) -> None:
    base = write_trainable_base(tmp_path / "base")
    (tmp_path / "broker").mkdir()
    (tmp_path / "hub").mkdir()
    broker = Mosquitto(tmp_path / "broker")
    hub = HubProcess(tmp_path / "hub", broker.url)
    silo_words = ["--accelerate-config", str(write_silo_config(tmp_path / "acc.yaml", "FSDP"))]
    agents = []
    for seed, (device, words) in enumerate([("a", []), ("silo", silo_words)]):
        data = write_data(tmp_path / device / "my.jsonl", marker="", broken=0, seed=seed)
        agent = AgentProcess(tmp_path / device, broker.url, device, data, MEMORY_BYTES, words)
        agents.append(agent)
    broker.start()
    try:
        with Wiretap(broker.url) as tap:
            hub.start()
            for agent in agents:
                agent.start()
            job = job_text(
                "silo", base, cohort={"min": 2, "max": 2}, method="lora", rounds=1, local=LOCAL
            )
            hub.submit(job)
            poll("the end of the job", lambda: hub.job("silo").summary.phase in ENDED, 240)
            detail = hub.job("silo")
            assert detail.summary.phase == "done", (detail.summary, agents[1].log[-3000:])
            assert hub.accepted("silo") == [(1, "a"), (1, "silo")]
            assert detail.loss_after["silo"] < detail.loss_before["silo"]
            with HubClient(hub.url) as client:
                assert sorted(device.device for device in client.devices()) == ["a", "silo"]
            # Each of its processes is planned with half of its memory.
            for device, limit in ("a", "limit 8000 MB"), ("silo", "limit 4000 MB"):
                told = tap.messages(DeviceInfo, device)
                reasons = [one.plans["silo"].reason for one in told if "silo" in one.plans]
                assert reasons
                assert all(limit in reason for reason in reasons)
            log = (agents[1].state / "worker.log").read_text()
            assert "process 2 of 2" in log  # both of them did it
            processes = agents[1].children
            agents[1].interrupt()
            assert agents[1].wait(60) == 0
            poll("the end of its processes", lambda: all(is_gone(one) for one in processes))
    finally:
        for agent in agents:
            agent.close()
        hub.kill9()
        broker.kill()
