"""Certificate requests from the network."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from hub.fleet.csr import MAX_CSR_BYTES, check_csr, public_key
from tests.hub.fleet.keys import request
from wire.errors import MalformedError


def test_a_request_with_a_key_on_p_256_gives_that_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    found = check_csr(request(key))
    assert public_key(found.pem) == key.public_key()
    assert found == check_csr(request(key, "another name"))  # which is of no interest
    assert len(found.sha256) == 64


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "secp384r1"),
        (rsa.generate_private_key(65537, 2048), "RSAPublicKey"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519PublicKey"),
    ],
    ids=["another curve", "RSA", "Ed25519"],
)
def test_any_other_key_is_refused_by_name(key: ec.EllipticCurvePrivateKey, kind: str) -> None:
    with pytest.raises(MalformedError, match=f"key is .*{kind}.* P-256"):
        check_csr(request(key))


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    head, *body, foot, _ = request(ec.generate_private_key(ec.SECP256R1())).split("\n")
    der = bytearray(base64.b64decode("".join(body)))
    at = der.index(b"ward")
    der[at : at + 4] = b"hub!"  # signed as ward
    forged = f"{head}\n{base64.encodebytes(bytes(der)).decode()}{foot}\n"
    with pytest.raises(MalformedError, match="not signed with its own key"):
        check_csr(forged)


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="no PKCS #10"):
        check_csr(text)


def test_a_request_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(MalformedError, match="at most 4096"):
        check_csr("x" * (MAX_CSR_BYTES + 1))
