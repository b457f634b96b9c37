"""Certificate requests (PKCS #10, RFC 2986) from the network: capped, parsed, checked."""

import hashlib

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wire.errors import MalformedError

MAX_CSR_BYTES = 4096


class DeviceKey(msgspec.Struct, frozen=True):
    """A device's public key, whose owner has shown to have the private one."""

    pem: str
    sha256: str  # of the SubjectPublicKeyInfo (DER), hexadecimal


def check_csr(text: str) -> DeviceKey:
    """Return the key of a request. The name that it asks for is of no interest: ids are minted.

    Args:
        text: PEM.

    Raises:
        MalformedError: it is none, its key isn't on P-256, or its signature is another key's.
    """
    if len(text) > MAX_CSR_BYTES:
        raise MalformedError(f"the request has {len(text)} bytes; at most {MAX_CSR_BYTES}.")
    try:
        request = x509.load_pem_x509_csr(text.encode())
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError("the certificate request is no PKCS #10 request as PEM.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        kind = getattr(getattr(key, "curve", None), "name", type(key).__name__)
        raise MalformedError(f"the request's key is {kind}; allowed is an EC key on P-256.")
    try:
        valid = request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        valid = False
    if not valid:
        raise MalformedError("the request is not signed with its own key.")
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return DeviceKey(pem.decode(), hashlib.sha256(der).hexdigest())


def public_key(pem: str) -> ec.EllipticCurvePublicKey:
    """Return a key that `check_csr` has let pass."""
    key = serialization.load_pem_public_key(pem.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise MalformedError("a stored key is not on a curve; the database is damaged.")
    return key
