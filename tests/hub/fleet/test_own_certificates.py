"""The hub's own certificates."""

from pathlib import Path

from cryptography import x509

from hub.fleet.authority import DAY_S, Authority, open_authority
from hub.fleet.own_certificates import _names, keep_client, keep_server
from tests.hub.fleet.conftest import NOW


def test_a_certificate_is_made_once_and_renewed_at_two_thirds(
    authority: Authority, tmp_path: Path
) -> None:
    def keep(now: float) -> bool:
        return keep_server(tmp_path, "https", authority, ["hub.lan"], now)

    assert [keep(NOW), keep(NOW), keep(NOW + 264 * DAY_S)] == [True, False, False]
    assert [keep(NOW + 265 * DAY_S), keep(NOW + 265 * DAY_S)] == [True, False]
    assert oct((tmp_path / "https.key").stat().st_mode & 0o777) == "0o600"


def test_a_new_name_makes_a_new_one_that_keeps_the_names_before(
    authority: Authority, tmp_path: Path
) -> None:
    keep_server(tmp_path, "broker", authority, ["broker.lan", "10.0.0.5"], NOW)
    assert not keep_server(tmp_path, "broker", authority, ["10.0.0.5"], NOW)
    assert keep_server(tmp_path, "broker", authority, ["localhost"], NOW)
    made = x509.load_pem_x509_certificate((tmp_path / "broker.pem").read_bytes())
    assert _names(made) == {"localhost", "broker.lan", "10.0.0.5"}


def test_another_authority_or_a_broken_file_makes_a_new_one(
    authority: Authority, tmp_path: Path
) -> None:
    assert keep_client(tmp_path, authority, NOW)
    assert not keep_client(tmp_path, authority, NOW)
    other = open_authority(tmp_path / "other", "clinics", NOW)
    assert keep_client(tmp_path, other, NOW)
    (tmp_path / "hub.key").write_text("broken")
    assert keep_client(tmp_path, other, NOW)
    (tmp_path / "hub.pem").unlink()
    assert keep_client(tmp_path, other, NOW)
