"""Strangers' connections at an address with a bound."""

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from hub.api import patience
from hub.api.app import create_app
from hub.api.server import HttpServer
from tests.hub.api.served import MemoryHub


@pytest.fixture
def server(hub: MemoryHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    monkeypatch.setattr(patience, "HEAD_S", 0.5)
    monkeypatch.setattr(patience, "MOST_EACH", 4)
    server = HttpServer(create_app(hub), "127.0.0.1", 0, most=100)
    server.start()
    yield server
    server.stop()


def silent(server: HttpServer, sent: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    one.sendall(sent)
    return one


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT"])
def test_who_asks_nothing_in_time_is_dropped(server: HttpServer, sent: bytes) -> None:
    with silent(server, sent) as one:
        assert one.recv(1) == b""  # the server closed it


def test_an_address_has_a_bound_and_is_served_again_once_it_lets_go(server: HttpServer) -> None:
    url = f"http://127.0.0.1:{server.port}/healthz"
    held = [silent(server) for _ in range(4)]
    with pytest.raises(httpx.HTTPError):
        httpx.get(url, trust_env=False)
    for one in held:
        one.close()
    deadline = time.monotonic() + 20
    while True:
        try:
            assert httpx.get(url, trust_env=False).status_code == 200
            return
        except httpx.HTTPError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
