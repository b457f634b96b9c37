"""Enrolment from the device's side, against the hub's real HTTPS application."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.enrolment.client import EnrolmentError, check_url
from edge_agent.enrolment.enrol import Wishes, enrol, renew
from edge_agent.enrolment.identity import load_identity, load_pending
from edge_agent.errors import UsageError
from hub.api.enrolment import create_enrolment_app
from hub.api.server import HttpServer
from hub.fleet.authority import DAY_S, open_authority
from hub.fleet.csr import check_csr
from hub.fleet.enrolment import Enrolment, Terms
from hub.fleet.gate import Gate
from hub.fleet.notes import Notes
from hub.fleet.own_certificates import keep_server
from hub.store.database import Store
from tests.hub.api.served import MemoryHub
from wire.enrolment import EnrolReply, EnrolRequest, RenewRequest
from wire.errors import MalformedError


class Hub:
    """A hub's door over HTTPS, in this process, with a clock for certificates."""

    def __init__(self, folder: Path) -> None:
        self.now = time.time()
        self.folder = folder
        self.store = Store(f"sqlite:///{folder}/hub.db")
        self.authority = open_authority(folder / "a", "clinics", self.now)
        terms = Terms(fleet="clinics", broker="mqtts://b:8883", lifetime_s=90 * DAY_S, poll_s=0.1)
        identities = self.store.identities
        self.desk = Enrolment(identities, self.authority, Gate([]), Notes(identities), terms)
        keep_server(folder, "https", self.authority, ["127.0.0.1"], self.now)
        tls = (folder / "https.pem", folder / "https.key")
        app = create_enrolment_app(self, MemoryHub(folder))
        self.server = HttpServer(app, "127.0.0.1", 0, tls=tls)
        self.server.start()
        self.url = f"https://127.0.0.1:{self.server.port}"

    def ca_pem(self) -> str:
        return self.authority.pem

    def enrol(self, request: EnrolRequest, where: str) -> EnrolReply:
        return self.desk.enrol(request.token, check_csr(request.csr), request.name, where, self.now)

    def renew(self, request: RenewRequest, where: str) -> EnrolReply:
        return self.desk.renew(request.device, check_csr(request.csr), where, self.now)

    def token(self, *, preauthorised: bool = True) -> str:
        return self.desk.make_tokens(1, 60.0, self.now, preauthorised=preauthorised)[0]

    def close(self) -> None:
        self.server.stop()
        self.store.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "hub").mkdir()
    made = Hub(tmp_path / "hub")
    yield made
    made.close()


def nothing(_: object) -> None:
    """Take a line, or a pause."""


def wishes(hub: Hub, **changes: object) -> Wishes:
    given = {"hub": hub.url, "token": None, "name": "ward"} | changes
    return Wishes(**given)  # type: ignore[arg-type]


def test_the_waiting_room_says_so_once_and_opens(hub: Hub, tmp_path: Path) -> None:
    said: list[str] = []
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            hub.desk.approve("ward", hub.now)

    token = hub.token(preauthorised=False)
    identity = enrol(tmp_path / "s", wishes(hub, token=token), said.append, pause)
    assert identity.device == "ward"
    assert [line.split(";")[0] for line in said] == ["waiting for approval as ward"]
    assert pauses == [0.1] * 3
    # Once more is no error, and asks nobody.
    hub.close()
    assert enrol(tmp_path / "s", wishes(hub), said.append, pause) == identity
    assert "enrolled already, as ward" in said[-1]


def test_a_crash_at_any_step_is_made_good_by_doing_it_again(hub: Hub, tmp_path: Path) -> None:
    class KilledError(Exception):
        """Stands for kill -9."""

    def killed(_: float) -> None:
        raise KilledError

    token = hub.token(preauthorised=False)
    state = tmp_path / "s"
    with pytest.raises(KilledError):
        enrol(state, wishes(hub, token=token), nothing, killed)
    assert load_pending(state) is not None
    hub.desk.approve("ward", hub.now)
    # The certificate was signed and its answer lost: the same key comes again, without options.
    again = Wishes(hub=None, token=None, name="ward")
    assert enrol(state, again, nothing, nothing).device == "ward"
    assert load_pending(state) is None
    assert [one.device for one in hub.store.identities.identities()] == ["ward"]


def test_a_hub_that_is_away_is_waited_for(hub: Hub, tmp_path: Path) -> None:
    port, pauses, said = hub.server.port, [], []
    hub.server.stop()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            tls = (hub.folder / "https.pem", hub.folder / "https.key")
            app = create_enrolment_app(hub, MemoryHub(hub.folder))
            hub.server = HttpServer(app, "127.0.0.1", port, tls=tls)
            hub.server.start()

    identity = enrol(tmp_path / "s", wishes(hub, token=hub.token()), said.append, pause)
    assert identity.device == "ward"
    assert pauses == [2.0, 4.0]
    assert "does not answer" in said[0]


def test_an_authority_by_another_way_is_the_only_one_trusted(hub: Hub, tmp_path: Path) -> None:
    other = open_authority(tmp_path / "other", "clinics", hub.now)
    said: list[str] = []

    def give_up(_: float) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        wrong = wishes(hub, token=hub.token(), ca=other.pem)
        enrol(tmp_path / "1", wrong, said.append, give_up)
    assert "certificate can't be trusted" in said[0]
    good = wishes(hub, token=hub.token(), ca=hub.authority.pem)
    assert enrol(tmp_path / "2", good, nothing, nothing).device == "ward"


def test_again_makes_another_key_and_identity_and_keeps_the_old_one_aside(
    hub: Hub, tmp_path: Path
) -> None:
    state = tmp_path / "s"
    enrol(state, wishes(hub, token=hub.token()), nothing, nothing)
    first = (state / "identity" / "key.pem").read_bytes()
    second = enrol(state, wishes(hub, token=hub.token(), again=True), nothing, nothing)
    assert second.device == "ward-2"
    assert (state / "identity" / "key.pem").read_bytes() != first
    [aside] = state.glob("identity.before-*")
    assert (aside / "key.pem").read_bytes() == first


def test_a_rejected_device_ends_with_the_reason_and_may_come_again(
    hub: Hub, tmp_path: Path
) -> None:
    def reject(_: float) -> None:
        hub.desk.reject("ward", "who?", hub.now)

    token = hub.token(preauthorised=False)
    with pytest.raises(EnrolmentError, match=r"'ward' was rejected: who\?"):
        enrol(tmp_path, wishes(hub, token=token), nothing, reject)
    again = wishes(hub, token=hub.token(), again=True)
    assert enrol(tmp_path, again, nothing, nothing).device == "ward-2"


def test_a_certificate_is_renewed_by_the_enrolled_key_also_after_its_end(
    hub: Hub, tmp_path: Path
) -> None:
    first = enrol(tmp_path, wishes(hub, token=hub.token()), nothing, nothing)
    key = (tmp_path / "identity" / "key.pem").read_bytes()
    hub.now += 200 * DAY_S
    second = renew(tmp_path)
    assert second.not_after - first.not_after == pytest.approx(200 * DAY_S, abs=2)
    assert load_identity(tmp_path) == second
    assert (tmp_path / "identity" / "key.pem").read_bytes() == key
    hub.desk.revoke("ward", "stolen", hub.now)
    with pytest.raises(EnrolmentError, match="is revoked: stolen"):
        renew(tmp_path)


def test_what_is_missing_is_said(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--hub is missing"):
        enrol(tmp_path, Wishes(hub=None, token="x", name="a"), nothing, nothing)
    with pytest.raises(UsageError, match="the token is missing; set LORIKEET_TOKEN"):
        enrol(tmp_path, Wishes(hub=hub.url, token=None, name="a"), nothing, nothing)
    with pytest.raises(UsageError, match="enrol first"):
        renew(tmp_path)
    for url in ("http://hub.lan", "hub.lan", "https://", "https://h:x"):
        with pytest.raises(UsageError, match="allowed is https://host:port"):
            check_url(url)


def test_a_device_that_can_not_enrol_again_keeps_its_identity(hub: Hub, tmp_path: Path) -> None:
    enrol(tmp_path, wishes(hub, token=hub.token()), nothing, nothing)
    for token, words in ((None, "the token is missing"), ("lk1.broken", "token")):
        with pytest.raises((UsageError, MalformedError), match=words):
            enrol(tmp_path, wishes(hub, token=token, again=True), nothing, nothing)
        known = load_identity(tmp_path)
        assert known is not None
        assert known.device == "ward"
