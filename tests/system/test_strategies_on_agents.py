"""Real agents do what strategies ask of them: a proximal term, momentum, control variates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hub.api.control import ENDED, JobDetail
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.messages import BlobGet, DeviceInfo, Offer

pytestmark = [pytest.mark.broker, pytest.mark.slow]

LOCAL = {"steps": 4, "batch": 2, "min_batch": 2, "seq_len": 64, "min_seq_len": 64, "lr": 0.05}
PLAIN = {"optimizer": "sgd", "clip": None, "warmup_steps": 0}


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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
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


def test_control_variates_are_fetched_from_the_second_round_on(site: Site) -> None:
    prompt = {"tokens": 4, "lr": 0.5}
    site.play("corrected", strategy="scaffold", method="prompt", prompt=prompt,
              local=LOCAL | PLAIN)  # fmt: skip
    for offer in site.offers("corrected", 1):
        assert offer.work is not None
        assert offer.work.control is None
    offers = site.offers("corrected", 2)
    assert len(offers) == 2
    for device in "ab":
        asked = {one.sha256 for one in site.tap.messages(BlobGet, device)}
        work = next(one.work for one in offers if one.task.endswith(device))
        assert work is not None
        assert work.control is not None
        assert work.own_control is not None
        assert {work.control.sha256, work.own_control.sha256} <= asked
    # Each is let go of with its task.
    for agent in site.agents:
        held = {path.name for path in (agent.state / "blobs").rglob("*") if path.is_file()}
        for offer in offers:
            assert offer.work is not None
            assert offer.work.own_control is not None
            assert offer.work.own_control.sha256 not in held


def test_momentum_and_a_proximal_term_train_factors(site: Site) -> None:
    detail = site.play(
        "normalised",
        strategy="fednova",
        server={"mu": 0.1},
        method="lora",
        local=LOCAL | {"optimizer": "sgd", "momentum": 0.9},
    )
    for offer in site.offers("normalised", 2):
        assert offer.work is not None
        assert (offer.work.proximal_mu, offer.work.momentum) == (0.1, 0.9)
    assert detail.loss_after.keys() == {"a", "b"}


def test_the_hubs_momentum_takes_real_updates_further(site: Site) -> None:
    """Round 1 of both is the same; in round 2 momentum adds what round 1 learnt."""
    settings: dict[str, Any] = {"method": "lora", "local": LOCAL, "codec": "raw", "seed": 3}
    plain = site.play("plain", strategy="fedavg", **settings)
    further = site.play("further", strategy="fedavgm", server={"momentum": 0.9}, **settings)
    for device in "ab":
        assert further.loss_after[device] < further.loss_before[device]
        assert further.loss_after[device] < plain.loss_after[device]
