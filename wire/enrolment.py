"""What a device and the hub say to one another over HTTPS before there is a certificate.

JSON documents, and the token that an operator carries from one to the other. A token is secret: it
stands in no log, and the hub keeps its hash alone.
"""

import base64
import hashlib
import re
import secrets
from typing import Annotated, Literal

import msgspec

from wire.errors import MalformedError

#: No request or answer is larger; nothing beyond is read.
MAX_ENROLMENT_BYTES = 16 * 1024
_TOKEN = re.compile(r"lk1\.([A-Za-z0-9_-]{32})\.([A-Za-z0-9_-]{43})\Z")

_Pem = Annotated[str, msgspec.Meta(max_length=8192)]
_Name = Annotated[str, msgspec.Meta(max_length=63)]
EnrolmentState = Literal["waiting", "enrolled", "rejected"]


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A device asks for a certificate; repeated, with the same key, until it has one."""

    token: Annotated[str, msgspec.Meta(max_length=128)]
    csr: _Pem  # PKCS #10, signed with the device's key; the name in it is of no interest
    name: _Name = ""  # that the device would like


class RenewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An enrolled device asks for a new certificate, by a request signed with its enrolled key."""

    device: _Name
    csr: _Pem


class EnrolReply(msgspec.Struct, frozen=True, kw_only=True):
    """How far a device is; with ``enrolled``, all that it needs to connect."""

    state: EnrolmentState
    device: str  # the id that the hub minted
    reason: str = ""
    poll_s: float = 5.0  # while waiting: when to ask again
    certificate: str = ""  # PEM
    ca: str = ""  # PEM: who signs the broker's certificate, too
    fleet: str = ""
    broker: str = ""  # URL
    not_before: float = 0.0  # Unix time, seconds
    not_after: float = 0.0


class EnrolFailure(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing came of a request, in words. ``final``: asking again can't help."""

    error: str
    final: bool = True


class Token(msgspec.Struct, frozen=True):
    """A single-use token, taken apart.

    Attributes:
        secret: 192 random bits; what the hub knows the hash of.
        ca_sha256: of the hub's authority (DER), by which a device knows whom it talks to.
    """

    secret: str
    ca_sha256: bytes

    def __repr__(self) -> str:  # never in a log
        return "Token(...)"

    @property
    def text(self) -> str:
        """The token as people carry it."""
        digest = base64.urlsafe_b64encode(self.ca_sha256).rstrip(b"=").decode()
        return f"lk1.{self.secret}.{digest}"


def new_token(ca_der: bytes) -> Token:
    """Return a token that nobody has seen.

    Args:
        ca_der: the hub's authority.
    """
    return Token(secrets.token_urlsafe(24), hashlib.sha256(ca_der).digest())


def parse_token(text: str) -> Token:
    """Take a token apart.

    Raises:
        MalformedError: it is none; the message doesn't repeat it.
    """
    match = _TOKEN.match(text.strip())
    if not match:
        raise MalformedError(
            "the token is not one of a Lorikeet hub; it begins with lk1. and has 80 characters. "
            "Make one with: lorikeet-hub device token."
        )
    return Token(match[1], base64.urlsafe_b64decode(match[2] + "="))


def token_hash(secret: str) -> str:
    """Return by what the hub knows a token. It has 192 random bits, so no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()
