"""The HTTPS address for devices: TLS, bounds, limits; what is decided has tests of its own."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub.api.enrolment import create_enrolment_app
from hub.api.server import HttpServer
from hub.fleet.authority import Authority, open_authority
from hub.fleet.enrolment import EnrolmentRefusedError
from hub.fleet.own_certificates import keep_server
from tests.hub.api.served import MemoryHub
from tests.hub.fleet.conftest import NOW
from wire.enrolment import EnrolReply, EnrolRequest, RenewRequest
from wire.errors import MalformedError


class Desk:
    """Answers what a test wants."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.asked: list[EnrolRequest | RenewRequest] = []
        self.error: Exception | None = None

    def ca_pem(self) -> str:
        return self._authority.pem

    def enrol(self, request: EnrolRequest, where: str) -> EnrolReply:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return EnrolReply(state="waiting", device=f"from {where}")

    def renew(self, request: RenewRequest, where: str) -> EnrolReply:
        self.asked.append(request)
        return EnrolReply(state="enrolled", device=request.device)


class Served:
    """The application behind real TLS, and a clock."""

    def __init__(self, folder: Path, hub: MemoryHub) -> None:
        self.now = 0.0
        self.authority = open_authority(folder / "a", "clinics", NOW)
        self.desk = Desk(self.authority)
        self.tls = (folder / "https.pem", folder / "https.key")
        self.renew(folder, 0)
        app = create_enrolment_app(self.desk, hub, lambda: self.now)
        self.server = HttpServer(app, "127.0.0.1", 0, tls=self.tls)
        self.server.start()
        self.client = self.connect(self.authority)

    def renew(self, folder: Path, number: int) -> None:
        names = ["127.0.0.1", f"n{number}.lan"]
        keep_server(folder, "https", self.authority, names, time.time())

    def connect(self, authority: Authority) -> httpx.Client:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authority.pem)
        url = f"https://127.0.0.1:{self.server.port}"
        return httpx.Client(base_url=url, verify=context, trust_env=False)

    def enrol(self) -> httpx.Response:
        return self.client.post("/v1/enrol", json={"token": "lk1.x", "csr": "y", "name": "ward"})


@pytest.fixture
def served(tmp_path: Path, hub: MemoryHub) -> Iterator[Served]:
    made = Served(tmp_path, hub)
    yield made
    made.client.close()
    made.server.stop()


def test_requests_reach_the_desk_with_the_senders_address(served: Served) -> None:
    assert served.enrol().json()["device"] == "from 127.0.0.1"
    served.client.post("/v1/renew", json={"device": "ward", "csr": "y"})
    assert served.desk.asked == [
        EnrolRequest(token="lk1.x", csr="y", name="ward"),
        RenewRequest(device="ward", csr="y"),
    ]
    assert served.client.get("/v1/ca").text == served.authority.pem


def test_base_models_are_served_here_and_nothing_of_the_operators(
    served: Served, hub: MemoryHub
) -> None:
    sha256 = hub.add_blob(b"weights")
    assert served.client.get(f"/v1/blobs/{sha256}").content == b"weights"
    for path in ("/v1/devices", "/v1/jobs", "/v1/door", "/openapi.json", "/docs"):
        assert served.client.get(path).status_code == 404
    assert served.client.post("/v1/tokens", json={}).status_code == 404


def test_what_is_no_request_is_refused_before_the_desk(served: Served) -> None:
    for body in (b"", b"[]", b"{}", b'{"token": 1, "csr": ""}', b"\xff", b"[" * 10_000):
        served.now += 60
        answer = served.client.post("/v1/enrol", content=body)
        assert (answer.status_code, answer.json()["final"]) == (422, True)
    long = {"token": "x" * 129, "csr": "y"}
    assert served.client.post("/v1/enrol", json=long).status_code == 422
    assert served.client.post("/v1/enrol", content=b"x" * 20_000).status_code == 413
    assert served.desk.asked == []


def test_a_refusal_has_words_and_too_many_of_them_a_pause(served: Served) -> None:
    served.desk.error = EnrolmentRefusedError("the token has expired.")
    answers = [served.enrol() for _ in range(11)]
    assert answers[0].json() == {"error": "the token has expired.", "final": True}
    assert [one.status_code for one in answers] == [403] * 10 + [429]
    assert not answers[-1].json()["final"]
    served.desk.error = MalformedError("the request's key is RSA.")
    served.now = 61.0
    assert served.enrol().status_code == 422
    served.desk.error = None
    assert served.enrol().status_code == 200
    assert len(served.desk.asked) == 13  # behind that address honest devices may be, too


def test_a_renewed_certificate_is_shown_to_new_connections(served: Served, tmp_path: Path) -> None:
    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", served.server.port))

    first = shown()
    assert first == served.tls[0].read_text()
    served.renew(tmp_path, 1)
    served.server.reload_certificate()
    assert shown() == served.tls[0].read_text() != first
    other = open_authority(tmp_path / "b", "clinics", NOW)
    with (
        served.connect(other) as stranger,
        pytest.raises(httpx.ConnectError, match="verify failed"),
    ):
        stranger.get("/v1/ca")
