"""A hub to which more devices greet than it may know: the coordinator's side."""

import logging
from pathlib import Path

import pytest

from hub.rounds.coordinator import Coordinator
from hub.store.database import Store
from wire.blobs import BlobStore
from wire.broker_settings import BrokerSettings
from wire.messages import Hello
from wire.version import LORIKEET_VERSION, WIRE_VERSION


def coordinator(folder: Path, store: Store, most: int) -> Coordinator:
    return Coordinator(
        broker=BrokerSettings(url="mqtt://127.0.0.1:1"),  # never started, so never connected
        fleet="crowd",
        http="http://127.0.0.1:1",
        store=store,
        blobs=BlobStore(folder / "blobs"),
        folder=folder,
        max_devices=most,
    )


def greet(hub: Coordinator, device: str, now: float) -> None:
    hello = Hello(
        id="1", session=f"s-{device}", agent_version=LORIKEET_VERSION, wire_version=WIRE_VERSION
    )
    hub.reception.on_hello(device, hello, now)


def test_the_database_forgets_them_too_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(f"sqlite:///{tmp_path}/hub.db")
    hub = coordinator(tmp_path, store, most=3)
    with caplog.at_level(logging.WARNING, "hub"):
        for number in range(10):
            greet(hub, f"id-{number}", now=float(number))
    kept = ["id-7", "id-8", "id-9"]
    assert [device.id for device in hub.known_devices()] == kept
    assert [row.device for row in store.devices()] == kept
    lines = [one.getMessage() for one in caplog.records if "max_devices" in one.getMessage()]
    assert len(lines) == 1
    assert "max_devices, 3, allows" in lines[0]
    assert "the first one is id-0" in lines[0]
    store.close()


def test_who_did_work_is_refused_nothing_and_a_newcomer_is_told_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(f"sqlite:///{tmp_path}/hub.db")
    hub = coordinator(tmp_path, store, most=2)
    replies: list[object] = []
    monkeypatch.setattr(hub.reception, "reply", lambda _, reply: replies.append(reply))
    greet(hub, "a", 1.0)
    greet(hub, "b", 2.0)
    hub.sessions._workers = lambda: {"a", "b"}
    greet(hub, "c", 3.0)
    assert getattr(replies[-1], "final", None) is False
    assert "raise max_devices" in getattr(replies[-1], "reason", "")
    assert [device.id for device in hub.known_devices()] == ["a", "b"]
    store.close()
