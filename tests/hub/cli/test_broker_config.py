"""``lorikeet-hub broker-config``: the folder that it writes."""

from pathlib import Path

import pytest
from cryptography import x509

from hub.fleet.own_certificates import _names
from tests.hub.cli.conftest import Run

ENROLMENT = "enrolment: {listen: '127.0.0.1:0', public_url: 'https://hub.lan:8443'}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "hub.yaml"
    path.write_text(f"fleet: clinics\nbroker: {{url: 'mqtts://broker.lan'}}\n{ENROLMENT}")
    return path


def test_a_folder_holds_all_that_mosquitto_needs(run: Run, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "broker"
    words = ["broker-config", "--config", str(config), "--out", str(out), "--name", "10.0.0.5"]
    ended = run(*words, "--websocket", "8884", "--json")
    assert ended.document["files"] == [
        "mosquitto.conf", "acl", "ca.pem", "broker.pem", "broker.key", "crl.pem",
    ]  # fmt: skip
    made = x509.load_pem_x509_certificate((out / "broker.pem").read_bytes())
    assert {"broker.lan", "10.0.0.5", "localhost"} <= _names(made)
    assert x509.load_pem_x509_crl((out / "crl.pem").read_bytes()).issuer == made.issuer
    assert oct((out / "broker.key").stat().st_mode & 0o777) == "0o600"
    conf = (out / "mosquitto.conf").read_text()
    assert f"crlfile {out}/crl.pem" in conf
    assert "listener 8884\nprotocol websockets" in conf
    # The hub's own certificate is made, too; its authority's key stays out of the broker's folder.
    assert (tmp_path / "state" / "authority" / "hub.pem").exists()
    assert not list(out.glob("ca.key"))
    before = (out / "broker.pem").read_text()
    assert run(*words).code == 0
    assert (out / "broker.pem").read_text() == before


def test_without_enrolment_there_is_nothing_to_write(run: Run, tmp_path: Path) -> None:
    (tmp_path / "hub.yaml").write_text("fleet: clinics\n")
    words = ["broker-config", "--config", str(tmp_path / "hub.yaml"), "--out", str(tmp_path / "b")]
    ended = run(*words)
    assert ended.code == 2
    assert "enrolment.listen is missing" in ended.err


def test_a_folder_that_cannot_be_made_is_told(run: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    ended = run("broker-config", "--config", str(config), "--out", str(tmp_path / "taken"))
    assert ended.code == 1
    assert "Choose another folder" in ended.err
