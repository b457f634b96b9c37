"""Who may take part; `test_enrolment` has the states that the desk decides."""

from hub.fleet.gate import Gate
from hub.store.identities import Identity


def identity(state: str) -> Identity:
    return Identity(device="ward", key="k", public_key="p", state=state, asked=0.0, not_after=10.0)  # type: ignore[arg-type]


def test_without_enrolment_everybody_may_enter() -> None:
    assert Gate(None).refusal("anybody", 0.0) is None


def test_an_enrolled_device_may_enter_until_its_certificate_ends() -> None:
    gate = Gate([identity("enrolled")])
    assert gate.refusal("ward", 10.0) is None
    refusal = gate.refusal("ward", 10.1)
    assert refusal is not None
    assert "expired on 1970-01-01 00:00 UTC" in refusal.reason
    assert not refusal.final  # it renews by itself


def test_a_hub_that_was_started_anew_knows_what_was_decided() -> None:
    for state in ("waiting", "rejected", "revoked", "cloned"):
        refusal = Gate([identity(state)]).refusal("ward", 0.0)
        assert refusal is not None
        assert refusal.final
