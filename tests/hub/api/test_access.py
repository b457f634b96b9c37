"""Who sends the hub's token is let in; models and the health check are open."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub.api.app import create_app
from hub.cli.client import HubClient
from hub.errors import ConfigError, HubError
from tests.hub.api.served import MemoryHub, serving

TOKEN = "a-token-of-some-letters"


@pytest.fixture
def url(hub: MemoryHub) -> Iterator[str]:
    with serving(hub, TOKEN) as url:
        yield url


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer a-token", f"Basic {TOKEN}"])
def test_without_the_token_nothing_is_told(url: str, sent: str | None) -> None:
    headers = {"authorization": sent} if sent is not None else {}
    for path in ("/v1/jobs", "/v1/devices/clinic-1", "/metrics", "/openapi.json", "/v1/models"):
        answer = httpx.get(f"{url}{path}", headers=headers, trust_env=False)
        assert answer.status_code == 401, path
        assert "LORIKEET_HUB_TOKEN" in answer.json()["error"]
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_job_is_not_submitted_without_it(url: str, hub: MemoryHub) -> None:
    answer = httpx.post(f"{url}/v1/jobs", content="job: x", trust_env=False)
    assert (answer.status_code, hub.texts) == (401, [])


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_all_is_told(url: str, scheme: str) -> None:
    answer = httpx.get(
        f"{url}/v1/jobs", headers={"authorization": f"{scheme} {TOKEN}"}, trust_env=False
    )
    assert (answer.status_code, answer.json()) == (200, [])


def test_devices_fetch_models_and_probes_ask_without_it(url: str, hub: MemoryHub) -> None:
    sha256 = hub.add_blob(b"weights")
    assert httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    assert httpx.get(f"{url}/v1/blobs/{sha256}", trust_env=False).content == b"weights"
    assert httpx.get(f"{url}/v1/models/{'0' * 64}", trust_env=False).status_code == 404


def test_the_command_line_sends_what_its_environment_has(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with HubClient(url) as client, pytest.raises(HubError, match="LORIKEET_HUB_TOKEN"):
        client.jobs()
    monkeypatch.setenv("LORIKEET_HUB_TOKEN", TOKEN)
    with HubClient(url) as client:
        assert client.jobs() == []
    monkeypatch.delenv("LORIKEET_HUB_TOKEN")
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("LORIKEET_HUB_TOKEN_FILE", str(file))
    with HubClient(url) as client:
        assert client.jobs() == []
    monkeypatch.setenv("LORIKEET_HUB_TOKEN_FILE", str(file / "gone"))
    with pytest.raises(ConfigError, match="LORIKEET_HUB_TOKEN_FILE"):
        HubClient(url)


def test_an_operator_elsewhere_needs_the_token_to_decide_of_devices(hub: MemoryHub) -> None:
    def status(token: str | None, sent: str | None) -> int:
        async def ask() -> int:
            transport = httpx.ASGITransport(create_app(hub, token), client=("10.0.0.9", 1))
            headers = {"authorization": f"Bearer {sent}"} if sent is not None else {}
            async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
                body = {"count": 1, "expires_s": 60.0}
                return (await client.post("/v1/tokens", json=body, headers=headers)).status_code

        return asyncio.run(ask())

    assert status(None, None) == 403
    assert status(TOKEN, None) == 401
    assert status(TOKEN, TOKEN) == 201
