"""The device's key, and what the hub makes of it."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.enrolment.key import ca_der, check_certificate, device_key, signing_request
from edge_agent.errors import AgentError
from hub.fleet.authority import open_authority
from hub.fleet.csr import check_csr, public_key

NOW = 1_795_800_000.0


def test_a_key_is_made_once_on_p_256_for_its_owner_alone(tmp_path: Path) -> None:
    key = device_key(tmp_path)
    assert isinstance(key.curve, ec.SECP256R1)
    assert device_key(tmp_path).public_key() == key.public_key()
    assert oct((tmp_path / "identity" / "key.pem").stat().st_mode & 0o777) == "0o600"


def test_a_request_is_one_that_the_hub_takes_and_holds_no_private_key(tmp_path: Path) -> None:
    key = device_key(tmp_path)
    request = signing_request(key, "x" * 100)
    assert public_key(check_csr(request).pem) == key.public_key()
    assert "PRIVATE" not in request


def test_a_damaged_key_says_what_to_do(tmp_path: Path) -> None:
    device_key(tmp_path)
    (tmp_path / "identity" / "key.pem").write_text("broken")
    with pytest.raises(AgentError, match="enroll --again"):
        device_key(tmp_path)


def test_a_certificate_for_another_id_key_or_of_another_authority_is_not_taken(
    tmp_path: Path,
) -> None:
    hub, other = (open_authority(tmp_path / name, "f", NOW) for name in "ab")
    key, foreign = device_key(tmp_path / "1"), device_key(tmp_path / "2")
    good = hub.sign_client("ward", key.public_key(), NOW, 3600).pem
    check_certificate(good, hub.pem, "ward", key)
    for certificate, ca, device, whose in (
        (good, other.pem, "ward", key),
        (good, hub.pem, "lab", key),
        (good, hub.pem, "ward", foreign),
        ("", hub.pem, "ward", key),
    ):
        with pytest.raises(AgentError, match="the hub's certificate"):
            check_certificate(certificate, ca, device, whose)
    with pytest.raises(AgentError, match="is no certificate"):
        ca_der("nothing")
