"""What the log of a broker beside the hub tells; lines as mosquitto 2.0.11 wrote them."""

import os
from pathlib import Path

import pytest

from hub.fleet import broker_folder
from hub.fleet.broker_folder import BrokerFolder, Forbidden
from wire.topics import Topics

TOPICS = Topics("f")
CONNECTED = "17: New client connected from 10.0.0.9:4 as {} (p5, c1, k60, u'{}').\n"
DENIED = "17: Denied PUBLISH from {} (d0, q1, r0, m1, '{}', ... (2 bytes))\n"


def subscribing(client: str, *filters: str) -> str:
    lines = "".join(f"17: \t{one} (QoS 1)\n" for one in filters)
    return f"17: Received SUBSCRIBE from {client}\n{lines}17: Sending SUBACK to {client}\n"


@pytest.fixture
def folder(tmp_path: Path) -> BrokerFolder:
    (tmp_path / "mosquitto.log").write_text("what was before\n")
    return BrokerFolder(tmp_path, TOPICS)


def write(folder: BrokerFolder, text: str) -> None:
    with (folder.folder / "mosquitto.log").open("a") as file:
        file.write(text)


def test_a_forbidden_publish_is_told_by_the_name_in_the_certificate(folder: BrokerFolder) -> None:
    write(folder, CONNECTED.format("whatever", "cam-8") + DENIED.format("whatever", "a/b"))
    assert folder.forbidden() == [Forbidden("cam-8", "publish", "a/b")]
    assert folder.forbidden() == []
    assert folder.clients_of("cam-8") == ["whatever"]
    # Of a client from before the hub began, its id has to do.
    write(folder, DENIED.format("cam-7-2-ab12", "a"))
    assert folder.forbidden() == [Forbidden("cam-7-2", "publish", "a")]


def test_a_forbidden_subscription_is_told_and_what_agents_hear_is_not(folder: BrokerFolder) -> None:
    own = [
        TOPICS.hub_state(), TOPICS.job_round(), TOPICS.reply("cam-7"), TOPICS.command("cam-7"),
        TOPICS.repair_chunk("cam-7"), TOPICS.slice_chunk(), TOPICS.slice_chunk(name="manifest"),
    ]  # fmt: skip
    write(folder, subscribing("cam-7-ab", *own, TOPICS.reply("cam-8"), "#"))
    assert folder.forbidden() == [
        Forbidden("cam-7", "subscribe", TOPICS.reply("cam-8")),
        Forbidden("cam-7", "subscribe", "#"),
    ]
    write(folder, CONNECTED.format("watch-1", "hub") + subscribing("watch-1", "lorikeet/v1/+/#"))
    assert folder.forbidden() == []


def test_half_a_line_waits_for_its_rest(folder: BrokerFolder) -> None:
    line = DENIED.format("cam-7-a", "b")
    write(folder, line[:40])
    assert folder.forbidden() == []
    write(folder, line[40:])
    assert folder.forbidden() == [Forbidden("cam-7", "publish", "b")]


def test_a_log_that_grew_large_is_moved_aside(
    folder: BrokerFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_folder, "MAX_LOG_BYTES", 100)
    write(folder, "17: nothing\n" * 20)
    assert folder.forbidden() == []
    assert not (folder.folder / "mosquitto.log").exists()
    assert (folder.folder / "mosquitto.log.1").exists()
    write(folder, DENIED.format("cam-7-a", "b"))
    assert folder.forbidden() == [Forbidden("cam-7", "publish", "b")]


def test_a_process_that_is_no_mosquitto_gets_no_signal(folder: BrokerFolder) -> None:
    assert not folder.reload()
    (folder.folder / "mosquitto.pid").write_text(f"{os.getpid()}\n")
    assert not folder.publish_revocations(b"list")
    assert (folder.folder / "crl.pem").read_bytes() == b"list"
    assert oct((folder.folder / "crl.pem").stat().st_mode & 0o777) == "0o644"


@pytest.mark.parametrize("client", ["a b", "hub-clinics-ab12 (p2", "x (d0, q0", "a (p5, c1, k60"])
def test_a_client_id_of_any_kind_is_known_by_its_certificate(
    folder: BrokerFolder, client: str
) -> None:
    write(folder, CONNECTED.format(client, "mallory") + DENIED.format(client, "a"))
    write(folder, subscribing(client, "#"))
    assert folder.forbidden() == [
        Forbidden("mallory", "publish", "a"),
        Forbidden("mallory", "subscribe", "#"),
    ]
    assert folder.clients_of("mallory") == [client]


def test_who_connected_before_the_hub_began_is_known(tmp_path: Path) -> None:
    (tmp_path / "mosquitto.log.1").write_text(CONNECTED.format("old", "mallory"))
    (tmp_path / "mosquitto.log").write_text(
        CONNECTED.format("later", "mallory") + DENIED.format("later", "a")
    )
    found = BrokerFolder(tmp_path, TOPICS)
    assert found.clients_of("mallory") == ["old", "later"]
    assert found.forbidden() == []  # which is history
