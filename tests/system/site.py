"""A hub and two warm agents, as real processes, that take one small job after the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hub.api.control import ENDED, JobDetail
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.messages import DeviceInfo, Offer

LOCAL = {"steps": 4, "batch": 2, "min_batch": 2, "seq_len": 64, "min_seq_len": 64, "lr": 0.05}


class Site(NamedTuple):
    """A hub with two warm agents."""

    base: Path
    hub: HubProcess
    agents: list[AgentProcess]
    tap: Wiretap

    def play(self, name: str, **settings: Any) -> JobDetail:
        """Run a job of two rounds to its end."""

        def ended() -> JobDetail | None:
            detail = self.hub.job(name)
            return detail if detail.summary.phase in ENDED else None

        self.hub.submit(job_text(name, self.base, cohort={"min": 2, "max": 2}, **settings))
        detail: JobDetail = poll(f"the end of {name}", ended, 240)
        assert detail.summary.phase == "done", (detail.summary, self.hub.log[-2000:])
        assert self.hub.accepted(name) == [(r, d) for r in (1, 2) for d in ("a", "b")]
        return detail

    def offers(self, name: str, round_: int) -> list[Offer]:
        """Return what was offered of a job's round, once for each device."""
        found = [one for device in "ab" for one in self.tap.messages(Offer, device)]
        by_task = {one.task: one for one in found if (one.job, one.round) == (name, round_)}
        return [one for one in by_task.values() if one.kind == "train"]


@contextmanager
def open_site(folder: Path) -> Iterator[Site]:
    """Start a broker, a hub and agents "a" and "b"; end them with the context."""
    base = write_trainable_base(folder / "base")
    (folder / "broker").mkdir()
    (folder / "hub").mkdir()
    broker = Mosquitto(folder / "broker")
    hub = HubProcess(folder / "hub", broker.url)
    agents = []
    for seed, device in enumerate("ab"):
        data = write_data(folder / device / "my.jsonl", marker="", broken=0, seed=seed)
        agents.append(AgentProcess(folder / device, broker.url, device, data))
    broker.start()
    try:
        with Wiretap(broker.url) as tap:
            hub.start()
            for agent in agents:
                agent.start()
            for agent in agents:
                tap.await_message(DeviceInfo, agent.device)
            yield Site(base, hub, agents, tap)
    finally:
        for agent in agents:
            agent.close()
        hub.kill9()
        broker.kill()
