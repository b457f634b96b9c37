import httpx
import pytest

from hub.errors import HubError
from tests.hub.api.served import MemoryHub


def test_it_says_that_it_is_well(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"ok": True, "version": "0.1.0", "peak_bytes": 123}


def test_numbers_are_told_as_prometheus_asks_for_them(client: httpx.Client) -> None:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.text == "lorikeet_devices 1.0\n"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/x", 404), ("PUT", "/v1/jobs", 405)]
)
def test_every_error_is_a_document(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert f"{method} {path}" in answer.json()["error"]


def test_a_failure_of_the_hub_is_answered_with_its_reason(
    client: httpx.Client, hub: MemoryHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise HubError("the disk is full; free some.")

    monkeypatch.setattr(hub, "list_jobs", fail)
    answer = client.get("/v1/jobs")
    assert (answer.status_code, answer.json()["error"]) == (500, "the disk is full; free some.")


def test_no_page_loads_scripts_from_elsewhere(client: httpx.Client) -> None:
    assert client.get("/docs").status_code == 404
    assert client.get("/redoc").status_code == 404
