"""Whom the door refuses has no effect, and hears why."""

import logging
from pathlib import Path
from typing import Any

import pytest

from hub.fleet.authority import DAY_S, open_authority
from hub.fleet.door import Door
from hub.fleet.enrolment import Enrolment, Terms
from hub.fleet.gate import Gate
from hub.fleet.notes import Notes
from hub.fleet.sessions import Sessions
from hub.rounds.doorkeeper import Doorkeeper
from hub.rounds.reception import Reception
from hub.store.database import Store
from tests.hub.fleet.keys import device_key
from wire.link import Received
from wire.messages import Hello, Message, Telemetry, Welcome, encode, parse
from wire.quiet_log import QuietLog
from wire.topics import Topics

NOW = 1_795_800_000.0
TOPICS = Topics("f")


class Hub:
    """A reception with a doorkeeper, and what both said."""

    def __init__(self, folder: Path) -> None:
        self.said: list[Message | None] = []
        self.gone: list[str] = []
        store = Store(f"sqlite:///{folder}/hub.db")
        authority = open_authority(folder / "a", "f", NOW)
        gate, notes = Gate([]), Notes(store.identities)
        terms = Terms(fleet="f", broker="mqtts://b", lifetime_s=90 * DAY_S)
        self.desk = Enrolment(store.identities, authority, gate, notes, terms)
        self.sessions = Sessions()
        nothing: Any = lambda *_: None  # noqa: E731
        reception = Reception(
            link=self, topics=TOPICS, epoch="e", sessions=self.sessions, store=nothing,  # type: ignore[arg-type]
            broadcast=nothing, allowed_bytes=nothing, arrived=nothing, gone=nothing,
            quiet=QuietLog(logging.getLogger("test")),
        )  # fmt: skip
        door = Door(gate, notes, self.desk)
        self.reception = reception
        self.keeper = Doorkeeper(
            door, self.sessions, reception, lambda device, _: self.gone.append(device)
        )

    def publish(self, topic: str, payload: bytes, qos: int) -> bool:
        route = TOPICS.parse(topic)
        assert route is not None
        self.said.append(parse(route, payload))
        return True

    def enrol(self, device: str) -> None:
        [token] = self.desk.make_tokens(1, 60.0, NOW, preauthorised=True)
        self.desk.enrol(token, device_key(), device, "here", NOW)

    def hears(self, message: Message, now: float = NOW, device: str = "ward") -> bool:
        """Take a device's message; True if it was let through."""
        topic = (
            TOPICS.request(device, "hello")
            if isinstance(message, Hello)
            else TOPICS.telemetry(device)
        )
        route = TOPICS.parse(topic)
        assert route is not None
        if self.keeper.keeps_out(device, route, Received(topic, encode(message), False), now):
            return False
        if isinstance(message, Hello):
            self.reception.on_hello(device, message, now)
        return True

    def kinds(self) -> list[str]:
        return [one.kind for one in self.desk.store.door("ward")]


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def hello(session: str, request: str = "1") -> Hello:
    return Hello(id=request, session=session, agent_version="0", wire_version=1)


def telemetry(session: str) -> Telemetry:
    return Telemetry(session=session, ts=0.0, supervisor_rss_bytes=1)


def test_an_enrolled_device_passes_and_a_stranger_hears_why_not(hub: Hub) -> None:
    assert not hub.hears(hello("a"))
    [refused] = hub.said
    assert "not enrolled" in refused.reason  # type: ignore[union-attr]
    hub.enrol("ward")
    assert hub.hears(hello("a"))
    assert isinstance(hub.said[-1], Welcome)
    assert hub.kinds() == ["session_refused", "asked", "enrolled"]


def test_a_revoked_session_ends_and_its_messages_are_ignored(hub: Hub) -> None:
    hub.enrol("ward")
    hub.hears(hello("a"))
    hub.desk.revoke("ward", "", NOW)
    assert not hub.hears(telemetry("a"))
    assert hub.gone == ["ward"]
    assert hub.sessions.live() == []
    assert hub.said[-1].session == "a"  # type: ignore[union-attr]  (asked to greet, to hear why)
    assert not hub.hears(hello("a"))
    assert hub.said[-1].final  # type: ignore[union-attr]
    assert hub.kinds()[-2:] == ["ignored", "session_refused"]


def test_a_session_outlives_its_certificate_by_nothing(hub: Hub) -> None:
    hub.enrol("ward")
    hub.hears(hello("a"))
    late = NOW + 91 * DAY_S
    assert not hub.hears(telemetry("a"), late)
    assert not hub.hears(hello("a"), late)
    assert not hub.said[-1].final  # type: ignore[union-attr]  (it renews, and may come again)


def test_of_two_live_sessions_neither_stays(hub: Hub) -> None:
    hub.enrol("ward")
    hub.hears(hello("a"))
    hub.hears(hello("b", "enter"))
    assert hub.said[-1].session == "a"  # type: ignore[union-attr]  (is it still there?)
    hub.said.clear()
    hub.hears(hello("a", "2"))
    assert [(one.session, one.re) for one in hub.said] == [("a", "2"), ("b", "enter")]  # type: ignore[union-attr]
    assert all("two live machines" in one.reason for one in hub.said)  # type: ignore[union-attr]
    assert hub.gone == ["ward"]
    assert not hub.hears(hello("a"))
    assert not hub.hears(hello("c"))
    hub.desk.approve("ward", NOW)
    assert hub.hears(hello("a"))
    assert isinstance(hub.said[-1], Welcome)


def test_a_first_session_that_is_gone_is_no_clone(hub: Hub) -> None:
    """A machine that lost its power and came back."""
    hub.enrol("ward")
    hub.hears(hello("a"))
    hub.hears(hello("b"))
    hub.reception.tick(NOW + 10)
    assert isinstance(hub.said[-1], Welcome)
    assert hub.said[-1].session == "b"
    assert "cloned" not in hub.kinds()
