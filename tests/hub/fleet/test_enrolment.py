"""The desk at the door, with the clock in hand."""

import pytest

from hub.errors import ConflictError, NotFoundError
from hub.fleet.authority import DAY_S
from hub.fleet.csr import DeviceKey
from hub.fleet.enrolment import Enrolment, EnrolmentRefusedError
from tests.hub.fleet.conftest import NOW
from tests.hub.fleet.keys import device_key

HERE = "10.0.0.9"


def token(desk: Enrolment, *, preauthorised: bool = False, expires_s: float = 3600.0) -> str:
    [made] = desk.make_tokens(1, expires_s, NOW, preauthorised=preauthorised)
    return made


def enrolled(desk: Enrolment, name: str = "ward", now: float = NOW) -> DeviceKey:
    key = device_key()
    assert desk.enrol(token(desk, preauthorised=True), key, name, HERE, now).state == "enrolled"
    return key


def kinds(desk: Enrolment, device: str | None = None) -> list[str]:
    return [one.kind for one in desk.store.door(device)]


def test_a_device_waits_until_it_is_approved_and_then_gets_all_that_it_needs(
    desk: Enrolment,
) -> None:
    key, made = device_key(), token(desk)
    waiting = desk.enrol(made, key, "ward", HERE, NOW)
    assert (waiting.state, waiting.device, waiting.certificate) == ("waiting", "ward", "")
    assert desk.gate.refusal("ward", NOW) is not None
    desk.approve("ward", NOW + 60)
    reply = desk.enrol(made, key, "ward", HERE, NOW + 61)
    assert (reply.state, reply.device, reply.fleet) == ("enrolled", "ward", "clinics")
    assert reply.broker == "mqtts://broker.lan:8883"
    assert reply.ca == desk.authority.pem
    assert reply.not_after == NOW + 60 + 90 * DAY_S
    assert desk.gate.refusal("ward", NOW) is None
    assert kinds(desk, "ward") == ["asked", "enrolled", "approved"]


def test_a_repeated_request_burns_no_token_and_makes_no_second_device(desk: Enrolment) -> None:
    key, made = device_key(), token(desk, preauthorised=True)
    first = desk.enrol(made, key, "ward", HERE, NOW)
    # The answer was lost; the token has expired meanwhile.
    assert desk.enrol(made, key, "another name", HERE, NOW + 2 * 3600) == first
    assert [one.device for one in desk.store.identities()] == ["ward"]


def test_a_token_is_good_for_one_key_and_until_its_end(desk: Enrolment) -> None:
    used = token(desk)
    desk.enrol(used, device_key(), "ward", HERE, NOW)
    with pytest.raises(EnrolmentRefusedError, match="used by another device already"):
        desk.enrol(used, device_key(), "lab", HERE, NOW)
    old = token(desk, expires_s=60)
    with pytest.raises(EnrolmentRefusedError, match="has expired"):
        desk.enrol(old, device_key(), "lab", HERE, NOW + 61)
    assert desk.enrol(token(desk, expires_s=60), device_key(), "lab", HERE, NOW + 59)
    assert [one.device for one in desk.store.identities()] == ["lab", "ward"]


def test_the_database_holds_no_token(desk: Enrolment) -> None:
    made = token(desk)
    desk.enrol(made, device_key(), "ward", HERE, NOW)
    secret = made.split(".")[1]
    rows = [str(one) for one in (*desk.store.identities(), *desk.store.door())]
    assert not any(secret in row for row in rows)


def test_an_id_is_never_given_twice_and_never_the_hubs(desk: Enrolment) -> None:
    enrolled(desk, "ward")
    desk.revoke("ward", "", NOW)
    names = ["ward", "hub", "Hub", "../etc/#", "", "x" * 80]
    minted = []
    for name in names:
        key = device_key()
        minted.append(desk.enrol(token(desk), key, name, HERE, NOW).device)
        if not name:
            assert minted[-1] == f"device-{key.sha256[:8]}"
    assert minted[:4] == ["ward-2", "hub-2", "Hub-2", "etc"]
    assert len(minted[5]) == 56


def test_renewal_is_for_the_enrolled_key_before_the_end_and_after(desk: Enrolment) -> None:
    key = enrolled(desk)
    at = NOW + 60 * DAY_S  # two thirds
    renewed = desk.renew("ward", key, HERE, at)
    assert renewed.not_after == at + 90 * DAY_S
    assert desk.renew("ward", key, HERE, at + 5) == renewed  # the answer was lost
    after = at + 200 * DAY_S
    refusal = desk.gate.refusal("ward", after)
    assert refusal is not None
    assert "expired on" in refusal.reason
    assert not refusal.final
    desk.renew("ward", key, HERE, after)
    assert desk.gate.refusal("ward", after) is None
    with pytest.raises(EnrolmentRefusedError, match="no device of this hub has that id and key"):
        desk.renew("ward", device_key(), HERE, after)
    with pytest.raises(EnrolmentRefusedError, match="no device of this hub"):
        desk.renew("lab", key, HERE, after)


def test_a_revoked_device_is_out_for_good_with_all_its_certificates(desk: Enrolment) -> None:
    key = enrolled(desk)
    desk.renew("ward", key, HERE, NOW + 60 * DAY_S)
    desk.revoke("ward", "stolen", NOW + 61 * DAY_S)
    assert len(desk.store.revoked(NOW + 61 * DAY_S)) == 2
    assert len(desk.store.revoked(NOW + 100 * DAY_S)) == 1  # the first one has expired
    for ask in (
        lambda: desk.renew("ward", key, HERE, NOW),
        lambda: desk.enrol(token(desk), key, "ward", HERE, NOW),
    ):
        with pytest.raises(EnrolmentRefusedError):
            ask()
    with pytest.raises(ConflictError, match="revoked, for good"):
        desk.approve("ward", NOW)
    refusal = desk.gate.refusal("ward", NOW)
    assert refusal is not None
    assert refusal.final
    desk.revoke("ward", "again", NOW)  # is no error, and changes nothing
    assert desk.store.identity("ward").reason == "stolen"  # type: ignore[union-attr]


def test_a_clone_is_out_until_the_operator_approves_and_is_renewed_no_more(desk: Enrolment) -> None:
    key = enrolled(desk)
    desk.cloned("ward", NOW)
    assert "two live machines" in str(desk.gate.refusal("ward", NOW))
    with pytest.raises(EnrolmentRefusedError, match="is cloned: two live machines"):
        desk.renew("ward", key, HERE, NOW)
    desk.approve("ward", NOW)
    assert desk.gate.refusal("ward", NOW) is None
    assert desk.store.revoked(NOW) == []


def test_a_rejected_device_hears_why_and_may_be_approved_after_all(desk: Enrolment) -> None:
    key, made = device_key(), token(desk)
    desk.enrol(made, key, "ward", HERE, NOW)
    desk.reject("ward", "who?", NOW)
    assert desk.enrol(made, key, "ward", HERE, NOW).reason == "who?"
    desk.approve("ward", NOW)
    with pytest.raises(ConflictError, match="is enrolled; revoke it instead"):
        desk.reject("ward", "", NOW)
    with pytest.raises(NotFoundError, match="no device 'lab' ever asked"):
        desk.approve("lab", NOW)


def test_who_is_not_enrolled_may_not_enter_a_guarded_hub(desk: Enrolment) -> None:
    refusal = desk.gate.refusal("stranger", NOW)
    assert refusal is not None
    assert "not enrolled at this hub" in refusal.reason
