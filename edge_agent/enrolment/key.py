"""The device's key, made here and never sent, and the request that it signs.

The only file of the agent that imports `cryptography`; an idle agent doesn't.
"""

from pathlib import Path

from edge_agent.enrolment.identity import KEY, identity_folder
from edge_agent.errors import AgentError, UsageError
from wire.private_file import write_private

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID
except ImportError as error:
    raise UsageError(
        "enrolment needs the library cryptography, which is not installed. Install it with: "
        "pip install 'lorikeet[enrol]'."
    ) from error


def device_key(state: Path) -> ec.EllipticCurvePrivateKey:
    """Return the device's key (EC, P-256); the first time, it is made.

    Raises:
        AgentError: the file is damaged.
    """
    path = identity_folder(state) / KEY
    if not path.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_private(path, pem)
        return key
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise AgentError(
            f"the key {path} can't be read: {error}. Make another with: lorikeet-agent enroll "
            "--again."
        ) from error
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise AgentError(f"the key {path} is on no curve; lorikeet-agent enroll --again.")
    return found


def signing_request(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    """Return a certificate request (PKCS #10, PEM), which shows that we have the key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:63] or "device")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def check_certificate(
    certificate: str, ca: str, device: str, key: ec.EllipticCurvePrivateKey
) -> None:
    """Check that what the hub sent is a certificate for our key and id, by its authority.

    Raises:
        AgentError: it isn't.
    """
    try:
        signed = x509.load_pem_x509_certificate(certificate.encode())
        authority = x509.load_pem_x509_certificate(ca.encode())
        signed.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise AgentError(
            f"the hub's certificate for {device!r} is not signed by its authority: {error}."
        ) from error
    names = signed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if signed.public_key() != key.public_key() or [one.value for one in names] != [device]:
        raise AgentError(f"the hub's certificate is not for {device!r} and this device's key.")


def ca_der(pem: str) -> bytes:
    """Return an authority's certificate as its fingerprint is taken of (DER).

    Raises:
        AgentError: it is none.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise AgentError("what the hub calls its authority is no certificate.") from error
    return certificate.public_bytes(serialization.Encoding.DER)
