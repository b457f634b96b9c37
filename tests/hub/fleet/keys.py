"""Devices' keys and requests, as a device makes them."""

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from hub.fleet.csr import DeviceKey, check_csr

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def request(key: Key, name: str = "ward") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, digest)
    return made.public_bytes(serialization.Encoding.PEM).decode()


def device_key() -> DeviceKey:
    return check_csr(request(ec.generate_private_key(ec.SECP256R1())))
