"""The hub's authority; OpenSSL itself judges what it signs."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from hub.fleet.authority import (
    DAY_S,
    Authority,
    AuthorityError,
    Revoked,
    new_key,
    open_authority,
)
from tests.certificates import OPENSSL
from tests.hub.fleet.conftest import NOW


def verify(folder: Path, *words: str) -> str:
    """Return what ``openssl verify`` says of device.pem, at a time of the test's."""
    command = ["openssl", "verify", "-CAfile", str(folder / "ca.pem"), "-x509_strict", *words,
               str(folder / "device.pem")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture
def signed(authority: Authority, tmp_path: Path) -> str:
    """Write a device's certificate of an hour; return its serial."""
    made = authority.sign_client("ward", new_key().public_key(), NOW, 3600)
    (tmp_path / "device.pem").write_text(made.pem)
    (tmp_path / "ca.pem").write_text(authority.pem)
    (tmp_path / "crl.pem").write_bytes(authority.revocation_list([], NOW))
    return made.serial


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH")
def test_openssl_takes_a_certificate_for_its_hour_and_its_purpose_alone(
    signed: str, tmp_path: Path
) -> None:
    client = ("-purpose", "sslclient")
    assert ": OK" in verify(tmp_path, "-attime", str(int(NOW) + 1), *client)
    assert ": OK" in verify(tmp_path, "-attime", str(int(NOW) - 1800), *client)  # a slow clock
    assert "has expired" in verify(tmp_path, "-attime", str(int(NOW) + 3700), *client)
    server = verify(tmp_path, "-attime", str(int(NOW) + 1), "-purpose", "sslserver")
    assert "certificate purpose" in server


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH")
def test_openssl_refuses_what_the_list_names_also_years_after_the_list_was_made(
    signed: str, authority: Authority, tmp_path: Path
) -> None:
    check = ("-attime", str(int(NOW) + 60), "-crl_check", "-CRLfile", str(tmp_path / "crl.pem"))
    assert ": OK" in verify(tmp_path, *check)
    revoked = authority.revocation_list([Revoked(signed, NOW + 1)], NOW + 1)
    (tmp_path / "crl.pem").write_bytes(revoked)
    assert "certificate revoked" in verify(tmp_path, *check)
    later = authority.sign_client("lab", new_key().public_key(), NOW + 10 * 365 * DAY_S, 3600)
    (tmp_path / "device.pem").write_text(later.pem)
    at = str(int(NOW + 10 * 365 * DAY_S) + 1)
    assert ": OK" in verify(tmp_path, "-attime", at, *check[2:])


def test_a_certificate_names_the_device_and_may_sign_nothing(authority: Authority) -> None:
    made = authority.sign_client("ward", new_key().public_key(), NOW, 90 * DAY_S)
    certificate = x509.load_pem_x509_certificate(made.pem.encode())
    assert certificate.subject.rfc4514_string() == "CN=ward"
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert made.not_after == NOW + 90 * DAY_S
    assert f"{certificate.serial_number:x}" == made.serial


def test_a_servers_certificate_has_its_names_and_addresses(authority: Authority) -> None:
    made = authority.sign_server(["hub.lan", "10.0.0.5", "::1"], new_key().public_key(), NOW)
    names = (
        x509.load_pem_x509_certificate(made.pem.encode())
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert names.get_values_for_type(x509.DNSName) == ["hub.lan"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5", "::1"]


def test_an_authority_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    first = open_authority(folder, "clinics", NOW)
    assert open_authority(folder, "other", NOW + DAY_S).sha256 == first.sha256
    assert {oct(p.stat().st_mode & 0o777) for p in folder.glob("ca.*")} == {"0o600"}
    assert folder.stat().st_mode & 0o077 == 0


def test_a_key_of_another_authority_and_a_lost_one_are_told(tmp_path: Path) -> None:
    open_authority(tmp_path / "a", "clinics", NOW)
    open_authority(tmp_path / "b", "clinics", NOW)
    shutil.copy(tmp_path / "a" / "ca.key", tmp_path / "b" / "ca.key")
    with pytest.raises(AuthorityError, match="is not the key of"):
        open_authority(tmp_path / "b", "clinics", NOW)
    (tmp_path / "b" / "ca.key").unlink()
    with pytest.raises(AuthorityError, match=r"Restore ca\.key and ca\.pem from a backup"):
        open_authority(tmp_path / "b", "clinics", NOW)
