"""Tokens."""

import hashlib

import pytest

from wire.enrolment import new_token, parse_token, token_hash
from wire.errors import MalformedError


def test_a_token_carries_its_secret_and_the_authoritys_fingerprint() -> None:
    token = new_token(b"certificate")
    assert len(token.text) == 80
    again = parse_token(f" {token.text}\n")
    assert again == token
    assert again.ca_sha256 == hashlib.sha256(b"certificate").digest()
    assert token_hash(again.secret) == hashlib.sha256(token.secret.encode()).hexdigest()
    assert new_token(b"certificate") != token


def test_a_token_shows_nothing_when_it_is_printed() -> None:
    token = new_token(b"certificate")
    assert token.secret not in repr(token) + str(token)


@pytest.mark.parametrize(
    "text", ["", "lk1.", "lk2." + "A" * 32 + "." + "A" * 43, "lk1." + "A" * 31 + "." + "A" * 44]
)
def test_what_is_no_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(MalformedError, match="begins with lk1") as raised:
        parse_token(text)
    assert "AAAA" not in str(raised.value)
