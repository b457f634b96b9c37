"""What an enrolled device keeps."""

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.enrolment.connecting import connecting
from edge_agent.enrolment.identity import (
    DAY_S,
    Identity,
    Pending,
    identity_folder,
    load_identity,
    load_pending,
    save_identity,
    save_pending,
    set_aside,
)
from edge_agent.errors import AgentError, UsageError
from wire.broker_settings import BrokerSettings

WARD = Identity(
    device="ward", fleet="clinics", broker="mqtts://broker.lan:8883", hub="https://hub.lan:8443",
    not_before=0.0, not_after=90 * DAY_S,
)  # fmt: skip
NOTHING = BrokerSettings(url="")


def test_an_identity_is_kept_for_its_owner_and_ends_what_was_under_way(tmp_path: Path) -> None:
    pending = Pending(hub="https://h", token="lk1.secret", name="ward")
    save_pending(tmp_path, pending)
    assert load_pending(tmp_path) == pending
    assert load_identity(tmp_path) is None
    save_identity(tmp_path, WARD, "certificate", "ca")
    assert load_identity(tmp_path) == WARD
    assert load_pending(tmp_path) is None
    folder = identity_folder(tmp_path)
    assert {oct(one.stat().st_mode & 0o777) for one in folder.iterdir()} == {"0o600"}
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    set_aside(tmp_path)
    assert load_identity(tmp_path) is None
    assert [one.name.split("-")[0] for one in tmp_path.iterdir()] == ["identity.before"]


def test_a_certificate_is_renewed_at_two_thirds_of_its_lifetime() -> None:
    assert WARD.renew_at() == 60 * DAY_S
    assert WARD.days_left(91 * DAY_S) == -1


def test_a_damaged_note_says_what_to_do(tmp_path: Path) -> None:
    identity_folder(tmp_path).mkdir()
    (identity_folder(tmp_path) / "identity.json").write_text("{")
    with pytest.raises(AgentError, match="Enrol anew: lorikeet-agent enroll --again"):
        load_identity(tmp_path)


def test_an_enrolled_device_needs_no_option_to_connect(tmp_path: Path) -> None:
    save_identity(tmp_path, WARD, "certificate", "ca")
    found = connecting(NOTHING, None, None, tmp_path, "host")
    folder = identity_folder(tmp_path)
    assert (found.device, found.fleet, found.enrolled) == ("ward", "clinics", True)
    assert found.broker == BrokerSettings(
        url=WARD.broker,
        ca_file=str(folder / "ca.pem"),
        cert_file=str(folder / "certificate.pem"),
        key_file=str(folder / "key.pem"),
    )
    elsewhere = BrokerSettings(url="wss://other.lan", ca_file="own.pem")
    found = connecting(elsewhere, "other", "ward", tmp_path, "host")
    assert (found.broker.url, found.broker.ca_file, found.fleet) == (
        "wss://other.lan", "own.pem", "other",
    )  # fmt: skip
    with pytest.raises(UsageError, match="enrolled as 'ward'"):
        connecting(NOTHING, None, "lab", tmp_path, "host")


def test_a_plain_broker_and_a_certificate_of_ones_own_stay_as_they_were(tmp_path: Path) -> None:
    plain = BrokerSettings(url="mqtt://127.0.0.1:1883")
    with pytest.raises(UsageError, match="--broker is missing, and this device is not enrolled"):
        connecting(NOTHING, None, None, tmp_path, "host")
    found = connecting(plain, None, None, tmp_path, "host")
    assert (found.broker, found.device, found.fleet, found.enrolled) == (
        plain, "host", "default", False,
    )  # fmt: skip
    save_identity(tmp_path, WARD, "certificate", "ca")
    assert connecting(plain, None, "lab", tmp_path, "host").device == "lab"
    own = BrokerSettings(url="mqtts://b", cert_file="mine.pem")
    assert connecting(own, None, None, tmp_path, "host").broker == own
    with pytest.raises(UsageError, match="beside --broker-cert-file"):
        connecting(BrokerSettings(url="", cert_file="mine.pem"), None, None, tmp_path, "host")


def test_an_agent_that_waits_holds_no_library_of_cryptography() -> None:
    code = (
        "import sys, edge_agent.run_command, edge_agent.agent;"
        "print(*{'cryptography', 'edge_agent.enrolment.client'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
