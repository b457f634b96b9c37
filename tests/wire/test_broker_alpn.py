"""What the link says in the TLS handshake, recorded by a real TLS server."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.certificates import OPENSSL, Authority
from wire import broker_settings
from wire.broker_profile import PROFILES
from wire.broker_settings import BrokerSettings
from wire.broker_tls import tls_context
from wire.link import Link

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH")

#: docs.aws.amazon.com/iot/latest/developerguide/protocols.html
AWS = "x-amzn-mqtt-ca"


class Server:
    """Takes one TLS connection and remembers what was agreed on; it speaks no MQTT."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        certificate, key = self.authority.sign("server", "IP:127.0.0.1")
        self.client = self.authority.sign("device")
        self.agreed: list[str | None] = []
        self.heard = threading.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._context.load_verify_locations(self.authority.certificate)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.set_alpn_protocols(["x-amzn-http-ca", AWS])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)

    def settings(self, scheme: str, port: int, **more: Any) -> BrokerSettings:
        certificate, key = self.client
        return BrokerSettings(
            url=f"{scheme}://127.0.0.1:{port}",
            ca_file=str(self.authority.certificate),
            cert_file=str(certificate),
            key_file=str(key),
            **more,
        )

    @contextmanager
    def listening(self) -> Iterator["Server"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._thread.join(20.0)
            self._listener.close()

    def _serve(self) -> None:
        plain, _ = self._listener.accept()
        with plain, self._context.wrap_socket(plain, server_side=True) as secure:
            self.agreed.append(secure.selected_alpn_protocol())
            secure.recv(1)  # the client's certificate is judged by now (TLS 1.3)
            self.heard.set()


@pytest.mark.parametrize(
    ("scheme", "port", "profile", "agreed"),
    [
        ("mqtts", 443, "aws-iot", AWS),
        ("mqtts", 8883, "aws-iot", None),
        ("wss", 443, "aws-iot", None),
        ("mqtts", 443, "generic", None),
    ],
)
def test_only_mqtt_on_port_443_of_aws_iot_is_named_in_the_handshake(
    tmp_path: Path, scheme: str, port: int, profile: str, agreed: str | None
) -> None:
    server = Server(tmp_path)
    context = tls_context(server.settings(scheme, port, profile=profile))
    with (
        server.listening(),
        socket.create_connection(("127.0.0.1", server.port), 10.0) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.send(b"\0")
        assert server.heard.wait(10.0)
        assert secure.selected_alpn_protocol() == agreed
    assert server.agreed == [agreed]


def test_the_link_says_so_when_it_connects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path)
    # Port 443 may not be ours: the profile names the server's in its place.
    here = msgspec.structs.replace(PROFILES["aws-iot"], alpn={server.port: AWS})
    monkeypatch.setattr(broker_settings, "PROFILES", PROFILES | {"aws-iot": here})
    link = Link(server.settings("mqtts", server.port, profile="aws-iot"), "one", lambda _: None)
    with server.listening():
        link.start()
        assert server.heard.wait(20.0)
        link.stop()
    assert server.agreed == [AWS]
