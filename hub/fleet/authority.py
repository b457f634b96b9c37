"""The hub's own certificate authority: a key that never leaves its folder, and what it signs.

X.509 as of RFC 5280: EC keys on P-256, SHA-256. A certificate of a device says its id (common
name) and may be used as a client's alone; a server's says its names and may not be a client's, so
that neither can stand in for the other.
"""

import datetime
import fcntl
import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub.errors import HubError
from wire.private_file import write_private

DAY_S = 86_400.0
#: A device whose clock is a little behind must take what was signed a moment ago.
BACKDATED_S = 3600.0
AUTHORITY_DAYS = 20 * 365
SERVER_DAYS = 397
_KEY, _CERTIFICATE = "ca.key", "ca.pem"


class AuthorityError(HubError):
    """The authority's files are damaged, or only half there."""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate, and what must be remembered of it."""

    pem: str
    serial: str  # hexadecimal
    not_before: float  # Unix time, seconds
    not_after: float


class Revoked(msgspec.Struct, frozen=True):
    """A line of the revocation list."""

    serial: str
    at: float  # Unix time, seconds


class Authority:
    """Signs; made by `open_authority`.

    Args:
        certificate: its own.
        key: that belongs to it.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @property
    def pem(self) -> str:
        """The authority's certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.DER)

    @property
    def sha256(self) -> str:
        """The certificate's fingerprint, hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()

    def sign_client(
        self, name: str, public_key: ec.EllipticCurvePublicKey, now: float, lifetime_s: float
    ) -> Signed:
        """Return a client's certificate.

        Args:
            name: a device's id, or ``hub``: the broker's access list goes by it.
            public_key: of the client.
            now: Unix time, in seconds.
            lifetime_s: from now on, at most as long as the authority's own.
        """
        return self._sign(name, public_key, now, lifetime_s, ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def sign_server(
        self,
        names: Iterable[str],
        public_key: ec.EllipticCurvePublicKey,
        now: float,
        lifetime_s: float = SERVER_DAYS * DAY_S,
    ) -> Signed:
        """Return a server's certificate for host names and addresses."""
        unique = list(dict.fromkeys(names))
        common = unique[0] if unique else "localhost"
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        return self._sign(common[:63], public_key, now, lifetime_s, usage, unique)

    def revocation_list(self, revoked: Iterable[Revoked], now: float) -> bytes:
        """Return the list of what is revoked (PEM).

        It is good for as long as the authority is: a broker whose list has run out refuses
        everybody, and a list is replaced when it changes, not when it ages.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(_time(now))
            .next_update(self._certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(int(now * 1000)), critical=False)
        )
        for one in revoked:
            entry = (
                x509.RevokedCertificateBuilder()
                .serial_number(int(one.serial, 16))
                .revocation_date(_time(one.at))
                .build()
            )
            builder = builder.add_revoked_certificate(entry)
        made = builder.sign(self._key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    def _sign(  # noqa: PLR0917  (each is one of a certificate's parts)
        self,
        name: str,
        public_key: ec.EllipticCurvePublicKey,
        now: float,
        lifetime_s: float,
        usage: x509.ObjectIdentifier,
        names: list[str],
    ) -> Signed:
        end = min(_time(now + lifetime_s), self._certificate.not_valid_after_utc)
        builder = (
            _builder(name, public_key, now)
            .issuer_name(self._certificate.subject)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(one) for one in names])
            builder = builder.add_extension(alternatives, critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        return Signed(
            pem=made.public_bytes(serialization.Encoding.PEM).decode(),
            serial=f"{made.serial_number:x}",
            not_before=made.not_valid_before_utc.timestamp(),
            not_after=made.not_valid_after_utc.timestamp(),
        )


def open_authority(folder: Path, fleet: str, now: float) -> Authority:
    """Return the authority of a folder; the first time, one is made.

    Args:
        folder: holds its key, which only the owner may read.
        fleet: stands in its name.
        now: Unix time, in seconds.

    Raises:
        AuthorityError: a file is missing or damaged.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(folder):
        key_path, path = folder / _KEY, folder / _CERTIFICATE
        # The certificate is written last: a key without one was never used.
        if not path.exists():
            _make(key_path, path, fleet, now)
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        except (OSError, ValueError) as error:
            raise AuthorityError(
                f"the authority in {folder} can't be read: {error}. Restore {_KEY} and "
                f"{_CERTIFICATE} from a backup; without them every device has to enrol anew."
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or (
            key.public_key() != certificate.public_key()
        ):
            raise AuthorityError(
                f"{key_path} is not the key of {path}; restore both from one backup."
            )
        return Authority(certificate, key)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as a file holds it (PKCS #8, not encrypted)."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _make(key_path: Path, path: Path, fleet: str, now: float) -> None:
    key = new_key()
    name = f"Lorikeet {fleet}"
    certificate = (
        _builder(name, key.public_key(), now)
        .issuer_name(_name(name))
        .not_valid_after(_time(now + AUTHORITY_DAYS * DAY_S))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_private(key_path, key_pem(key))
    write_private(path, certificate.public_bytes(serialization.Encoding.PEM))


def _builder(name: str, key: ec.EllipticCurvePublicKey, now: float) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now - BACKDATED_S))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _time(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(at), datetime.UTC)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep `serve` and `broker-config` from making two authorities at once."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
