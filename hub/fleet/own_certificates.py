"""The hub's and its broker's own certificates: made once, renewed in good time."""

from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hub.fleet.authority import DAY_S, SERVER_DAYS, Authority, Signed, key_pem, new_key
from hub.fleet.enrolment import HUB_NAME
from wire.private_file import write_privately

#: Of the hub's own client certificate.
_CLIENT_S = SERVER_DAYS * DAY_S
Sign = Callable[[ec.EllipticCurvePublicKey], Signed]


def keep_server(
    folder: Path, stem: str, authority: Authority, names: Iterable[str], now: float
) -> bool:
    """Have a server's certificate and key in a folder; True if they are new.

    Args:
        folder: for ``STEM.pem`` and ``STEM.key``.
        stem: of both names.
        authority: signs.
        names: host names and addresses, which must all be in it.
        now: Unix time, in seconds.
    """
    wanted = list(dict.fromkeys(names))
    path = folder / f"{stem}.pem"

    def fits(certificate: x509.Certificate) -> bool:
        return set(wanted) <= _names(certificate)

    def sign(key: ec.EllipticCurvePublicKey) -> Signed:
        # What stands in the one before stays: somebody gave those names elsewhere.
        return authority.sign_server([*wanted, *sorted(_names_in(path) - set(wanted))], key, now)

    return _keep(folder, stem, authority, fits, sign, now)


def keep_client(folder: Path, authority: Authority, now: float) -> bool:
    """Have the hub's own client certificate (``hub.pem``, ``hub.key``); True if it is new."""
    return _keep(
        folder,
        HUB_NAME,
        authority,
        lambda _: True,
        lambda k: authority.sign_client(HUB_NAME, k, now, _CLIENT_S),
        now,
    )


def _keep(  # noqa: PLR0917  (plain values, in one place)
    folder: Path,
    stem: str,
    authority: Authority,
    fits: Callable[[x509.Certificate], bool],
    sign: Sign,
    now: float,
) -> bool:
    path, key_path = folder / f"{stem}.pem", folder / f"{stem}.key"
    if _good(path, key_path, authority, fits, now):
        return False
    key = new_key()
    pem = sign(key.public_key()).pem.encode()
    # Between the two they don't belong together; whoever reads then reads again.
    write_privately({key_path: key_pem(key), path: pem})
    return True


def _good(
    path: Path,
    key_path: Path,
    authority: Authority,
    fits: Callable[[x509.Certificate], bool],
    now: float,
) -> bool:
    """Return whether a certificate is ours, fits, and has a third of its lifetime left."""
    try:
        stored, stored_key = path.read_bytes(), key_path.read_bytes()
    except FileNotFoundError:
        return False
    try:
        certificate = x509.load_pem_x509_certificate(stored)
        key = serialization.load_pem_private_key(stored_key, None)
        certificate.verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority.pem.encode())
        )
    except (ValueError, TypeError, InvalidSignature):
        return False
    begin = certificate.not_valid_before_utc.timestamp()
    end = certificate.not_valid_after_utc.timestamp()
    fresh = now < begin + (end - begin) * 2 / 3
    return fresh and key.public_key() == certificate.public_key() and fits(certificate)


def _names_in(path: Path) -> set[str]:
    try:
        return _names(x509.load_pem_x509_certificate(path.read_bytes()))
    except (OSError, ValueError):
        return set()


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(found.get_values_for_type(x509.DNSName)) | {
        str(one) for one in found.get_values_for_type(x509.IPAddress)
    }
