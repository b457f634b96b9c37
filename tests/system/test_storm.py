"""Thousands of random and mutated messages: hub and agent stay up, small and quiet, and go on."""

import queue
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Mosquitto
from tests.system.agent_base import write_data
from tests.system.agent_process import AgentProcess
from tests.system.fault_stage import SHAPE, FaultSite, FaultStage, hub_peak_bytes
from tests.system.hub_process import FLEET, HubProcess, poll
from tests.system.mutations import Mutations
from tests.system.small_base import write_base
from tests.system.steady_device import SteadyDevice
from tests.system.wiretap import Wiretap
from wire.link import Connected, Link, LinkEvent, Received
from wire.messages import Hello, Refused, Report, decode, encode
from wire.topics import Topics

pytestmark = [pytest.mark.broker, pytest.mark.faults]

#: Python's arenas and the caches of libraries, of which some are touched for the first time here;
#: a hundred bytes kept of each of 200 000 messages would be as much.
GROWTH_BYTES = 20_000_000
#: Of log, however many messages: a line for each subject (topic) every ten seconds.
MOST_LINES_PER_S = 40

#: Of those that were sent: they are large, and much alike.
MOST_CHUNKS = 3

T = Topics(FLEET)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultSite]:
    folder = tmp_path_factory.mktemp("storm")
    base = write_base(folder / "base", **SHAPE)
    broker = Mosquitto(folder)
    broker.start()
    hub = HubProcess(folder, broker.url)
    try:
        hub.start()
        yield FaultSite(folder, broker, hub, base)
    finally:
        hub.kill9()
        broker.kill()


@pytest.fixture(scope="module")
def sent(site: FaultSite) -> list[Received]:
    """Every message of a whole job of two devices, in their order."""
    with Wiretap(site.broker.url) as tap:
        stage = FaultStage(site, "recorded")
        try:
            stage.submit()
            stage.finish()
        finally:
            stage.close()
        return tap.received


def spoken_by(sent: list[Received], way: str, session: str, device: str) -> list[Received]:
    """Return what device a said (up) or heard (down), as if it was said by or to another one."""
    kinds = {
        "up": ("device_state", "device_info", "telemetry", "event", "request", "upload_chunk"),
        "down": ("hub_state", "job_round", "reply", "command", "slice_chunk", "repair_chunk"),
    }[way]
    hello = next(one.payload for one in sent if one.topic == T.request("a", "hello"))
    old = decode(hello, Hello).session.encode()
    found: list[Received] = []
    chunks = 0
    for one in sent:
        route = T.parse(one.topic)
        if route is None or route.kind not in kinds or route.device not in (None, "a"):
            continue
        chunks += route.kind.endswith("_chunk")
        if route.kind.endswith("_chunk") and chunks > MOST_CHUNKS:
            continue
        topic = one.topic.replace("/d/a/", f"/d/{device}/")
        found.append(Received(topic, one.payload.replace(old, session.encode()), False))
    return found


def storm(link_from: SteadyDevice, mutations: Mutations, count: int) -> float:
    """Publish so many messages, as fast as they are taken; return how many seconds it took."""
    began = time.monotonic()
    for _ in range(count):
        topic, payload = mutations.draw()
        poll("room to send", lambda t=topic, p=payload: link_from.link.publish(t, p))  # type: ignore[misc]
    return time.monotonic() - began


@pytest.fixture
def messages(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--fault-messages")
    return count


@pytest.mark.timeout(1800)
def test_a_storm_of_messages_to_the_hub(
    site: FaultSite,
    sent: list[Received],
    messages: int,
    fault_seed: int,
    record_property: Callable[[str, object], None],
) -> None:
    enemy = SteadyDevice(site.broker.url, f"enemy{fault_seed}", site.folder / "enemy", "none", 2)
    corpus = spoken_by(sent, "up", enemy.session, enemy.id)
    odd = [f"{T.watched}/d/{enemy.id}/up/req/none", f"{T.watched}/d/-/state", f"{T.data}/d/x/up/y"]
    mutations = Mutations(random.Random(fault_seed), corpus, odd)
    try:
        storm(enemy, mutations, messages // 10)  # what is only ever made once is made now
        _read_by_hub(enemy)
        before, said = _resident(site.hub), len(site.hub.log.splitlines())
        took_s = storm(enemy, mutations, messages - messages // 10)
        _read_by_hub(enemy)
        grown = _resident(site.hub) - before
    finally:
        enemy.close()
    record_property("grown_mb", grown / 1e6)
    record_property("messages_per_s", messages / took_s)
    assert grown <= GROWTH_BYTES
    assert hub_peak_bytes(site.hub) > 0
    lines = site.hub.log.splitlines()[said:]
    assert "Traceback" not in site.hub.log
    assert len(lines) <= 100 + MOST_LINES_PER_S * took_s
    stage = FaultStage(site, f"after-{fault_seed}")
    try:
        stage.submit()
        stage.fleet.finish(site.hub, stage.job)
        assert site.hub.accepted(stage.job) == [(1, "a"), (1, "b")]
    finally:
        stage.close()


@pytest.mark.timeout(1800)
def test_a_storm_of_messages_to_an_agent(
    site: FaultSite,
    sent: list[Received],
    messages: int,
    fault_seed: int,
    *,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    name = f"target{fault_seed}"
    data = write_data(tmp_path / "my.jsonl", marker="text")
    enemy = SteadyDevice(site.broker.url, f"wind{fault_seed}", tmp_path / "wind", "none", 2)
    # Too little memory for a worker: this is about the supervisor, and spares an import of torch.
    agent = AgentProcess(tmp_path, site.broker.url, name, data, memory_bytes=100_000_000)
    with Greetings(site.broker.url, name) as greetings, agent:
        session = greetings.next()
        corpus = spoken_by(sent, "down", session, name)
        odd = [f"{T.watched}/d/{name}/down/cmd/none", f"{T.data}/job/j/slice/none"]
        mutations = Mutations(random.Random(fault_seed), corpus, odd)
        storm(enemy, mutations, messages // 10)
        greetings.after(enemy, session)
        before, said = _rss(agent.pid), len(agent.log.splitlines())
        took_s = storm(enemy, mutations, messages - messages // 10)
        greetings.after(enemy, session)
        assert agent.running, agent.log[-2000:]
        grown = _rss(agent.pid) - before
        lines = agent.log.splitlines()[said:]
    enemy.close()
    record_property("grown_mb", grown / 1e6)
    record_property("messages_per_s", messages / took_s)
    assert grown <= GROWTH_BYTES
    assert "Traceback" not in agent.log
    assert len(lines) <= 100 + MOST_LINES_PER_S * took_s


def _read_by_hub(enemy: SteadyDevice) -> None:
    """Wait until the hub has read what was sent so far: a question that needs no session."""
    old = Hello(id=enemy.number(), session="old", agent_version="test", wire_version=0)
    assert isinstance(enemy.ask(old), Refused)


class Greetings:
    """Hears an agent greet, and nothing else of the storm.

    Args:
        broker: its URL.
        device: the agent's id.
    """

    def __init__(self, broker: str, device: str) -> None:
        self._inbox: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
        self._device = device
        self._link = Link(broker, f"greetings-{device}", self._inbox.put)
        self._link.subscribe(T.request(device, "hello"))
        self._link.start()
        self._await(Connected)

    def __enter__(self) -> "Greetings":
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def next(self) -> str:
        """Return the session of the next greeting, waiting for it."""
        return decode(self._await(Received).payload, Hello).session

    def after(self, enemy: SteadyDevice, session: str) -> None:
        """Wait until the agent has read what an enemy has sent so far: asked last, it greets."""
        while not self._inbox.empty():
            self._inbox.get()
        report = encode(Report(session=session))
        topic = T.command(self._device, str(Report.NAME))
        poll("room to send", lambda: enemy.link.publish(topic, report))
        assert self.next() == session

    def _await(self, kind: type[Any]) -> Any:
        while True:
            event = self._inbox.get(timeout=120)
            if isinstance(event, kind):
                return event


def _resident(hub: HubProcess) -> int:
    assert hub.running
    return _rss(hub.pid)


def _rss(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)
