import asyncio

import httpx
import pytest

from hub.api.app import create_app
from hub.api.control import TokenOrder
from tests.hub.api.served import MemoryHub


def test_devices_are_listed_and_shown(client: httpx.Client) -> None:
    listed = client.get("/v1/devices").json()
    assert [(device["device"], device["state"]) for device in listed] == [("clinic-1", "ready")]
    shown = client.get("/v1/devices/clinic-1").json()
    assert shown["info"]["plans"]["notes"]["rank"] == 8


def test_an_unknown_device_is_not_found(client: httpx.Client) -> None:
    assert client.get("/v1/devices/other").status_code == 404


def order(client: httpx.Client, path: str, content: bytes, kind: str = "application/json") -> int:
    return client.post(path, content=content, headers={"content-type": kind}).status_code


def test_tokens_are_made_as_ordered(client: httpx.Client, hub: MemoryHub) -> None:
    made = client.post("/v1/tokens", json={"count": 2, "expires_s": 60, "preauthorised": True})
    assert made.status_code == 201
    assert made.json()["tokens"] == ["lk1.0", "lk1.1"]
    assert hub.orders == [TokenOrder(count=2, expires_s=60, preauthorised=True)]
    assert client.post("/v1/tokens", json={"count": 13}).status_code == 409


def test_an_operator_decides_of_a_device(client: httpx.Client, hub: MemoryHub) -> None:
    for what, state in (("approve", "enrolled"), ("reject", "rejected"), ("revoke", "revoked")):
        answer = client.post(f"/v1/devices/clinic-1/{what}", json={"reason": "so"})
        assert answer.json()["identity"]["state"] == state
    assert hub.decisions[-1] == ("clinic-1", "revoke", "so")
    assert client.post("/v1/devices/other/revoke", json={}).status_code == 404
    assert client.get("/v1/door").json()[0]["kind"] == "asked"


def test_an_order_must_be_json_of_bounded_length_with_values_that_can_be(
    client: httpx.Client, hub: MemoryHub
) -> None:
    path = "/v1/tokens"
    assert order(client, path, b"{}", "text/plain") == 415  # what a foreign web page can send
    assert order(client, path, b"{") == 422
    assert order(client, path, b'{"count": 0}') == 422
    assert order(client, path, b'{"expires_s": -1}') == 422
    assert order(client, path, b" " * 5000) == 413
    assert hub.orders == []


def test_only_a_client_on_the_hubs_own_machine_decides(
    hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = httpx.ASGITransport(create_app(hub), client=("10.0.0.9", 5))

    async def ask() -> int:
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            return (await client.post("/v1/tokens", json={})).status_code

    assert asyncio.run(ask()) == 403
    assert hub.orders == []
