import socket
import threading

import httpx
import pytest
from fastapi import FastAPI

from hub.api.server import HttpServer
from hub.errors import HubError


def app() -> FastAPI:
    made = FastAPI()

    @made.get("/")
    def root() -> str:
        return "here"

    return made


def test_it_answers_once_started_and_not_once_stopped() -> None:
    server = HttpServer(app(), "127.0.0.1", 0)
    server.start()
    url = f"http://127.0.0.1:{server.port}/"
    assert server.port > 0
    assert httpx.get(url).json() == "here"
    server.stop()
    server.stop()
    assert "http" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HubError, match=f"127.0.0.1:{port}; .*in use"):
            HttpServer(app(), "127.0.0.1", port).start()
