"""The link over every transport, in both versions of MQTT, and what it says of broken TLS."""

import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import wire.link
from tests.certificates import OPENSSL, Authority, run_openssl
from tests.conftest import Mosquitto
from tests.packet_tap import PacketTap
from tests.system.hub_process import poll
from tests.wire.links import await_event, connected
from wire.broker_settings import BrokerSettings, Protocol
from wire.errors import BrokerSettingsError
from wire.link import Link, Received

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH"),
]


class Site:
    """A mosquitto with a listener for each transport, and certificates for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.ca_file = str(self.authority.certificate)
        server = self.authority.sign("server", "IP:127.0.0.1")
        others = self.authority.sign("elsewhere", "DNS:elsewhere.example")
        old = self.authority.sign("old", "IP:127.0.0.1", days=-1)
        self.cert_file, self.key_file = (str(one) for one in self.authority.sign("device"))
        self.ports = {name: free_port() for name in ("mqtts", "ws", "wss", "elsewhere", "old")}
        lines = [
            *self._listener("mqtts", *server, "require_certificate true"),
            *self._listener("elsewhere", *others),
            *self._listener("old", *old),
            *self._listener("wss", *server, "protocol websockets"),
            f"listener {self.ports['ws']} 127.0.0.1",
            "protocol websockets",
        ]
        self.broker = Mosquitto(folder, "\n".join(lines) + "\n")
        self.ports["mqtt"] = self.broker.port

    def _listener(self, name: str, certificate: Path, key: Path, *more: str) -> list[str]:
        return [
            f"listener {self.ports[name]} 127.0.0.1",
            f"cafile {self.authority.certificate}",
            f"certfile {certificate}",
            f"keyfile {key}",
            *more,
        ]

    def settings(self, scheme: str, protocol: Protocol = "auto", **more: Any) -> BrokerSettings:
        options: dict[str, Any] = {}
        if scheme in ("mqtts", "wss"):
            options["ca_file"] = self.ca_file
        if scheme == "mqtts":
            options |= {"cert_file": self.cert_file, "key_file": self.key_file}
        url = f"{scheme}://127.0.0.1:{self.ports[scheme]}"
        return BrokerSettings(url=url, protocol=protocol, **options | more)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    site.broker.start()
    yield site
    site.broker.kill()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once: what is waited for is how often, not how long."""
    monkeypatch.setattr(wire.link, "_FIRST_RETRY_S", 0.02)
    monkeypatch.setattr(wire.link, "_LAST_RETRY_S", 0.02)


@pytest.mark.parametrize(("protocol", "version"), [("mqtt-5", "5"), ("mqtt-3.1.1", "3.1.1")])
@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
def test_a_chunk_travels_over_each_transport_in_both_versions(
    site: Site, scheme: str, protocol: Protocol, version: str
) -> None:
    chunk = bytes(range(256)) * 256
    with connected(site.settings(scheme, protocol), "t/#") as (link, inbox):
        assert link.protocol == version
        assert link.publish("t/a", chunk)
        received = await_event(inbox, Received)
        assert (received.topic, received.payload) == ("t/a", chunk)
        poll("the acknowledgement", lambda: link.in_flight == 0)


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "ws", "wss"])
def test_mqtt_5_is_chosen_where_the_broker_has_it(site: Site, scheme: str) -> None:
    with connected(site.settings(scheme)) as (link, _):
        assert link.protocol == "5"


def test_without_certificates_of_our_own_one_is_enough_for_both_files(
    site: Site, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_text(Path(site.cert_file).read_text() + Path(site.key_file).read_text())
    with connected(site.settings("mqtts", cert_file=str(both), key_file=None)) as (link, _):
        assert link.connected


def test_over_a_thin_websocket_no_chunk_is_lost_where_paho_loses_what_a_socket_cuts(
    site: Site,
) -> None:
    # paho 2.2: a frame that the socket takes in part is dropped by the caller of its wrapper.
    chunks = [bytes([number]) * 65_536 for number in range(16)]
    with (
        PacketTap(site.ports["ws"], encrypted=True, slow=True) as tap,
        connected(site.settings("mqtt"), "t/#", client_id="watcher") as (_, inbox),
        connected(f"ws://127.0.0.1:{tap.port}", client_id="thin") as (link, _),
    ):
        assert link._connection is not None
        wrapped: Any = link._connection.client.socket()
        # The system would buffer megabytes on loopback, which on a thin link are soon full.
        wrapped._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        for chunk in chunks:
            assert link.publish("t/a", chunk)
        assert [await_event(inbox, Received).payload for _ in chunks] == chunks


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("scheme", "port", "more", "words"),
    [
        ("mqtts", "old", {}, "its certificate has expired"),
        ("mqtts", "elsewhere", {}, "its certificate is not for 127.0.0.1"),
        ("mqtts", "wss", {"ca_file": "another"}, "is not signed by .*another.pem; set ca_file"),
        ("mqtts", "wss", {"ca_file": None}, "is not signed by the system's authorities"),
        ("mqtts", "mqtt", {}, "doesn't speak TLS"),
        ("wss", "old", {}, "its certificate has expired"),
        ("ws", "mqtt", {}, "is no WebSocket"),
        ("mqtt", "wss", {}, "a port with TLS needs mqtts://"),
    ],
)
def test_what_is_wrong_with_tls_is_named_once_while_the_link_goes_on_trying(  # noqa: PLR0917
    site: Site,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    port: str,
    more: dict[str, Any],
    words: str,
) -> None:
    if more.get("ca_file") == "another":
        more = {"ca_file": str(Authority(tmp_path, "another").certificate)}
    settings = site.settings(scheme, **({"cert_file": None, "key_file": None} | more))
    with PacketTap(site.ports[port], encrypted=True) as tap:
        address = {"url": f"{scheme}://127.0.0.1:{tap.port}"}
        link = Link(msgspec.structs.replace(settings, **address), "tester", lambda _: None)
        link.start()
        poll("five attempts", lambda: tap.connections >= 5)
        assert not link.connected
        link.stop()
    said = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(said) == 1, said
    assert "is away" in said[0]
    assert re.search(words, said[0]), said[0]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("shown", ["none", "anothers"])
def test_a_broker_that_refuses_our_certificate_is_named(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture, shown: str
) -> None:
    files: dict[str, Any] = {"cert_file": None, "key_file": None}
    if shown == "anothers":
        cert, key = Authority(tmp_path, "stranger").sign("device")
        files = {"cert_file": str(cert), "key_file": str(key)}
    link = Link(site.settings("mqtts", **files), "tester", lambda _: None)
    link.start()
    poll("a reason", lambda: caplog.records)
    link.stop()
    assert "certificate" in caplog.records[0].getMessage()


def test_a_certificate_is_read_again_at_each_connection(site: Site, tmp_path: Path) -> None:
    stranger, key = Authority(tmp_path, "stranger").sign("device")
    settings = site.settings("mqtts", cert_file=str(stranger), key_file=str(key))
    link = Link(settings, "tester", lambda _: None)
    link.start()
    stranger.write_text(Path(site.cert_file).read_text())
    key.write_text(Path(site.key_file).read_text())
    poll("the connection with the renewed certificate", lambda: link.connected)
    link.stop()


@pytest.mark.parametrize("field", ["ca_file", "cert_file", "key_file"])
def test_a_file_that_can_not_be_used_is_refused_at_the_start(
    site: Site, tmp_path: Path, field: str
) -> None:
    text = tmp_path / "text.pem"
    text.write_text("not a certificate\n")
    for path in (str(text), str(tmp_path / "absent.pem")):
        with pytest.raises(BrokerSettingsError, match=path):
            Link(site.settings("mqtts", **{field: path}), "tester", lambda _: None)


def test_a_key_of_another_certificate_and_an_encrypted_one_are_refused(
    site: Site, tmp_path: Path
) -> None:
    _, other = site.authority.sign("other")
    with pytest.raises(BrokerSettingsError, match="is not the key of"):
        Link(site.settings("mqtts", key_file=str(other)), "tester", lambda _: None)
    locked = tmp_path / "locked.key"
    run_openssl("pkey", "-in", site.key_file, "-aes128", "-passout", "pass:x", "-out", str(locked))
    with pytest.raises(BrokerSettingsError, match="is encrypted"):
        Link(site.settings("mqtts", key_file=str(locked)), "tester", lambda _: None)
