from pathlib import Path

import pytest
from fastapi import FastAPI

from hub.api.server import HttpServer
from hub.cli.client import HubClient
from hub.errors import HubError, UnreachableError


def test_something_that_is_no_hub_is_told_from_one(tmp_path: Path) -> None:
    other = FastAPI()

    @other.get("/v1/jobs")
    def jobs() -> dict[str, str]:
        return {"hello": "world"}

    server = HttpServer(other, "127.0.0.1", 0)
    server.start()
    try:
        with HubClient(f"http://127.0.0.1:{server.port}/") as client:
            with pytest.raises(HubError, match="not as this version's hub"):
                client.jobs()
            with pytest.raises(HubError, match="HTTP status 404"):
                client.devices()
            with pytest.raises(HubError, match="HTTP status 404"):
                client.adapter("notes", tmp_path / "zip")
    finally:
        server.stop()


def test_a_loopback_hub_is_never_looked_for_behind_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = HttpServer(FastAPI(), "127.0.0.1", 0)
    server.start()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    try:
        with HubClient("http://127.0.0.1:9") as client, pytest.raises(UnreachableError):
            client.jobs()
    finally:
        server.stop()
