"""Identities against a real mosquitto with mutual TLS: each misuse is refused or has no effect,
and the operator sees it."""

import itertools
import json
import queue
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.enrolment.client import EnrolmentError
from edge_agent.enrolment.enrol import renew
from edge_agent.enrolment.identity import load_identity
from hub.fleet.authority import DAY_S, open_authority
from tests.scripted_device import ScriptedDevice
from tests.system.agent_process import ENVIRONMENT, SCRIPT
from tests.system.enrolled_site import EnrolledSite, open_enrolled_site
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import FLEET, poll
from tests.system.small_base import job_text, write_base
from tests.wire.links import connected
from wire.broker_settings import BrokerSettings
from wire.link import Link, Received
from wire.messages import (
    Hello,
    Refused,
    Report,
    Telemetry,
    Welcome,
    encode,
)
from wire.topics import Topics

pytestmark = pytest.mark.broker
TOPICS = Topics(FLEET)
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnrolledSite]:
    with open_enrolled_site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


@pytest.fixture
def device(site: EnrolledSite) -> Iterator[ScriptedDevice]:
    """An enrolled device that is welcome, of a name of its own for each test."""
    identity = site.enrol(f"ward-{next(_NUMBERS)}-x")
    one = ScriptedDevice(site.settings(identity.device), FLEET, identity.device)
    assert isinstance(one.greet(), Welcome)
    yield one
    one.close()


def is_refused(settings: BrokerSettings, caplog: pytest.LogCaptureFixture) -> bool:
    """Return whether a broker lets nobody in with these settings: the link says why, in vain."""
    caplog.clear()
    link = Link(settings, "intruder", lambda _: None)
    link.start()
    try:
        poll("a word about the broker", lambda: link.connected or caplog.messages)
        return not link.connected
    finally:
        link.stop()


def heard_by_hub(site: EnrolledSite, *topics: str) -> "connected":  # type: ignore[valid-type]
    """Connect with the hub's own certificate, which may read everything of the fleet."""
    folder = site.folder / "hub" / "state" / "authority"
    settings = BrokerSettings(
        url=site.broker_url,
        ca_file=str(folder / "ca.pem"),
        cert_file=str(folder / "hub.pem"),
        key_file=str(folder / "hub.key"),
    )
    return connected(settings, *topics, client_id="listener")


def was_asked(device: ScriptedDevice) -> bool:
    """Return whether the hub has asked this session to greet again."""
    device.pump(0.01)
    return any(isinstance(m, Report) and m.session == device.session for m in device.seen)


def hello(session: str = "forged") -> bytes:
    return encode(Hello(id="1", session=session, agent_version="0", wire_version=1))


def test_a_certificate_of_another_authority_is_refused(
    site: EnrolledSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = open_authority(tmp_path, FLEET, time.time())  # of the same name, even
    assert is_refused(site.certified("hub", other, time.time()), caplog)
    site.await_note("broker", "its certificate is of another authority, expired or revoked")


def test_an_expired_certificate_is_refused(
    site: EnrolledSite, caplog: pytest.LogCaptureFixture
) -> None:
    then = time.time() - 100 * DAY_S
    assert is_refused(site.certified("cam-1", site.authority, then), caplog)
    assert any("expired" in line for line in caplog.messages)
    site.await_note("broker", "expired")


def test_a_certificate_that_the_hub_never_gave_an_id_for_is_inert(site: EnrolledSite) -> None:
    """Of the hub's own authority, whose registry was lost, say: the broker lets it in."""
    settings = site.certified("ghost", site.authority, time.time())
    ghost = ScriptedDevice(settings, FLEET, "ghost")
    try:
        answer = ghost.greet()
    finally:
        ghost.close()
    assert isinstance(answer, Refused)
    assert "not enrolled at this hub" in answer.reason
    site.await_note("session_refused", "not enrolled", device="ghost")
    assert "ghost" not in site.listed()


def test_a_revoked_device_is_told_thrown_out_and_refused(
    site: EnrolledSite, device: ScriptedDevice, caplog: pytest.LogCaptureFixture
) -> None:
    shown = site.decide(device.id, "revoke", "stolen on Friday")
    assert shown.identity is not None
    assert (shown.identity.state, shown.identity.reason) == ("revoked", "stolen on Friday")
    # Its connection is open still: it is asked to greet, and hears why it may not.
    poll("the hub's question", lambda: was_asked(device))
    answer = device.greet()
    assert isinstance(answer, Refused)
    assert answer.final
    assert "was revoked" in answer.reason
    # What it says all the same has no effect.
    telemetry = Telemetry(session=device.session, ts=0.0, supervisor_rss_bytes=4711)
    device.link.publish(TOPICS.telemetry(device.id), encode(telemetry), 0)
    site.await_note("ignored", "was revoked", device=device.id)
    assert site.show(device.id).telemetry is None
    # The broker throws it out, and doesn't take it again: the list of the revoked is in force.
    poll("its end at the broker", lambda: not device.link.connected)
    assert is_refused(site.settings(device.id), caplog)
    assert site.listed()[device.id] == "revoked"
    kinds = [one.kind for one in site.show(device.id).door]
    assert kinds == ["asked", "enrolled", "revoked", "session_refused", "ignored"]


def test_a_revoked_device_gets_no_new_certificate(site: EnrolledSite) -> None:
    identity = site.enrol("gone")
    site.decide("gone", "revoke")
    with pytest.raises(EnrolmentError, match="is revoked"):
        renew(site.state("gone"))
    site.await_note("request_refused", "renewal refused", device="gone")
    assert load_identity(site.state("gone")) == identity


def test_nobody_speaks_in_anothers_name(site: EnrolledSite, device: ScriptedDevice) -> None:
    other = site.enrol("other").device
    theirs = [
        TOPICS.request(other, "hello"),
        TOPICS.device_state(other),
        TOPICS.upload_chunk(other),
        TOPICS.reply(device.id),  # its own, but only the hub may speak there
        TOPICS.hub_state(),
        TOPICS.job_round("j"),
    ]
    own = TOPICS.event(device.id, "mark")
    with heard_by_hub(site, *theirs, own) as (_, inbox):
        _drain(inbox)
        for topic in theirs:
            device.link.publish(topic, hello(), 0)
        received: list[Received] = []

        def heard_its_own() -> bool:
            # Said again and again: 2.0.11 hangs up after a refusal, and what was under way is lost.
            device.link.publish(own, b"{}", 1)
            while not inbox.empty():
                if isinstance(event := inbox.get(), Received):
                    received.append(event)
            return any(one.topic == own for one in received)

        poll("a message of its own", heard_its_own)
        assert [one for one in received if one.payload == hello()] == []
    site.await_note("forbidden", "tried to publish", "the broker forbids it", device=device.id)
    assert site.show(other).summary.state == "lost"


def test_nobody_hears_what_is_for_another(site: EnrolledSite, device: ScriptedDevice) -> None:
    other = site.enrol("overheard").device
    theirs = (TOPICS.reply(other), TOPICS.telemetry(), TOPICS.upload_chunk(), "#")
    with connected(site.settings(device.id), *theirs, client_id="ear") as (_, inbox):
        victim = ScriptedDevice(site.settings(other), FLEET, other)
        try:
            assert isinstance(victim.greet(), Welcome)  # so there was a request and a reply
            victim.describe("j")
        finally:
            victim.close()
        site.await_note("forbidden", "tried to subscribe", TOPICS.reply(other), device=device.id)
        got = [one.topic for one in _drain(inbox) if isinstance(one, Received)]
    allowed = (f"/d/{device.id}/down/", "/hub/state", "/job/")
    assert [topic for topic in got if not any(part in topic for part in allowed)] == []


def test_a_device_cannot_throw_another_one_out_without_knowing_its_client_id(
    site: EnrolledSite, device: ScriptedDevice
) -> None:
    """Client ids are free, so the secret is the number in them: others never hear it."""
    other = site.enrol("eavesdropper").device
    with connected(site.settings(other), "#", client_id=device.id) as (_, inbox):
        device.describe("j")
        assert isinstance(device.greet(), Welcome)
        assert device.link.connected
        assert not any(device.session in str(one) for one in _drain(inbox))


def test_a_used_token_is_refused_for_another_key_and_good_for_the_same(site: EnrolledSite) -> None:
    [token] = site.tokens()
    first = site.enrol("first", token)
    with pytest.raises(EnrolmentError, match="used by another device already"):
        site.enrol("second", token)
    site.await_note("token_refused", "127.0.0.1", "used by another device")
    (site.state("first") / "identity" / "identity.json").unlink()  # as if killed before the end
    assert site.enrol("first", token) == first
    assert "second" not in site.listed()


def test_an_expired_token_and_one_of_nowhere_are_refused(site: EnrolledSite) -> None:
    [token] = site.tokens(expires_s=1e-6)
    with pytest.raises(EnrolmentError, match="has expired"):
        site.enrol("late", token)
    site.await_note("token_refused", "the token has expired")
    made_up = "lk1." + "A" * 32 + token[36:]
    with pytest.raises(EnrolmentError, match="not one of this hub"):
        site.enrol("guesser", made_up)
    site.await_note("token_refused", "not one of this hub")


def test_a_hub_with_another_authority_than_the_tokens_gets_nothing(
    site: EnrolledSite, tmp_path: Path
) -> None:
    token = site.tokens()[0]
    with pytest.raises(EnrolmentError, match="another authority than the token names"):
        site.enrol("misled", token[:37] + "A" * 43)
    assert site.enrol("misled-not", token).device == "misled-not"  # it isn't burnt


def test_two_live_machines_with_one_identity_are_both_out_until_an_operator_decides(
    site: EnrolledSite, device: ScriptedDevice
) -> None:
    copy = ScriptedDevice(site.settings(device.id), FLEET, device.id)
    try:
        greeting = Hello(id="enter", session=copy.session, agent_version="0", wire_version=1)
        copy.link.publish(TOPICS.request(device.id, "hello"), encode(greeting), 0)
        poll("the hub's question", lambda: was_asked(device))
        answers = [device.greet(), copy._await(lambda e: getattr(e, "re", None) == "enter")]
        for answer in answers:
            assert isinstance(answer, Refused)
            assert "two live machines use the identity" in answer.reason
            assert "enroll --again" in answer.reason
        assert site.listed()[device.id] == "cloned"
        site.await_note("cloned", "two live machines", device=device.id)
        assert all(isinstance(one.greet(), Refused) for one in (device, copy))
        assert site.show(device.id).summary.state == "lost"  # no round counts it in
    finally:
        copy.close()
    # The copy was found; it comes back with a key of its own.
    assert site.enrol(device.id, state="copy").device == f"{device.id}-2"
    site.decide(device.id, "approve")
    assert isinstance(device.greet(), Welcome)


def test_the_waiting_room_outlasts_a_crash_and_lets_in_whom_the_operator_approves(
    site: EnrolledSite, tmp_path: Path
) -> None:
    [token] = site.tokens(preauthorised=False)
    words = ["enroll", "--hub", site.url, "--name", "waits", "--state", str(tmp_path), "--json"]
    environment = ENVIRONMENT | {"LORIKEET_TOKEN": token}
    first = subprocess.Popen(
        [str(SCRIPT), *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert first.stderr is not None
    line = first.stderr.readline()
    first.kill()
    first.wait()
    first.stderr.close()
    assert "waiting for approval as waits; at the hub: lorikeet-hub device approve waits" in line
    assert site.listed()["waits"] == "waiting"
    assert token.encode() not in b"".join(path.read_bytes() for path in site.folder.rglob("*.log"))
    assert site.decide("waits", "reject", "who is that?").identity.state == "rejected"  # type: ignore[union-attr]
    # Without token and hub: it goes on where it was, with the same key.
    again = [str(SCRIPT), "enroll", "--state", str(tmp_path), "--name", "waits", "--json"]
    done = subprocess.run(again, capture_output=True, text=True, timeout=60, env=ENVIRONMENT,
                          check=False)  # fmt: skip
    assert done.returncode == 1
    assert "was rejected: who is that?" in done.stderr
    site.decide("waits", "approve")
    done = subprocess.run(again, capture_output=True, text=True, timeout=60, env=ENVIRONMENT,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"] == "waits"
    modes = {p.name: oct(p.stat().st_mode & 0o777) for p in (tmp_path / "identity").iterdir()}
    assert set(modes) == {"key.pem", "certificate.pem", "ca.pem", "identity.json"}
    assert set(modes.values()) == {"0o600"}


def test_enrolled_devices_do_rounds_over_tls_and_websocket(
    site: EnrolledSite, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base")
    fleet = Fleet(site.broker_url)
    urls = {"over-tls": site.broker_url, "over-ws": f"wss://127.0.0.1:{site.websocket}"}
    try:
        for name, url in urls.items():
            identity = site.enrol(name)
            fleet._url = msgspec.structs.replace(site.settings(identity.device), url=url)
            fleet.join("tls", **{identity.device: ("lora", 2)})
        site.hub.submit(job_text("tls", base, cohort={"min": 2, "max": 9}))
        assert fleet.finish(site.hub, "tls").summary.phase == "done"
    finally:
        fleet.close()
    assert site.hub.accepted("tls") == [(r, d) for r in (1, 2) for d in ("over-tls", "over-ws")]


def test_a_hub_that_was_killed_still_knows_whom_it_let_in_and_whom_not(
    site: EnrolledSite, device: ScriptedDevice, caplog: pytest.LogCaptureFixture
) -> None:
    site.enrol("thief")
    site.decide("thief", "revoke")
    (site.broker_folder / "crl.pem").unlink()  # as if it had been killed before it was written
    site.hub.restart()
    assert site.listed()["thief"] == "revoked"
    assert isinstance(device.greet(), Welcome)
    assert is_refused(site.settings("thief"), caplog)


def _drain(inbox: "queue.Queue[object]") -> list[object]:
    found = []
    while not inbox.empty():
        found.append(inbox.get())
    return found
