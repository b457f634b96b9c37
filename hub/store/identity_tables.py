"""The tables of enrolment: identities, their certificates, tokens, what happened at the door."""

from sqlalchemy import Boolean, Column, Double, Index, String, Table, Text

from hub.store.tables import METADATA, SEQ

_NAME = String(63)
_DIGEST = String(64)  # sha256, hexadecimal
_SERIAL = String(48)  # at most 20 bytes (RFC 5280), hexadecimal

IDENTITIES = Table(
    "identities",
    METADATA,
    Column("device", _NAME, primary_key=True),
    Column("key", _DIGEST, nullable=False, unique=True),
    Column("public_key", Text, nullable=False),  # PEM
    Column("state", String(16), nullable=False),
    Column("asked", Double, nullable=False),  # Unix time, seconds
    Column("decided", Double, nullable=True),
    Column("token", _DIGEST, nullable=False),
    Column("reason", Text, nullable=False),
    Column("certificate", Text, nullable=False),  # the newest, PEM
    Column("serial", _SERIAL, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("not_after", Double, nullable=False),
)

# Each one ever signed: a revocation names them all.
CERTIFICATES = Table(
    "certificates",
    METADATA,
    Column("serial", _SERIAL, primary_key=True),
    Column("device", _NAME, nullable=False),
    Column("not_after", Double, nullable=False),
    Column("revoked", Double, nullable=True),
    Index("certificates_of_device", "device"),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("hash", _DIGEST, primary_key=True),
    Column("made", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("preauthorised", Boolean, nullable=False),
    Column("key", _DIGEST, nullable=True),  # of the device that used it
    Column("used", Double, nullable=True),
)

DOOR = Table(
    "door",
    METADATA,
    Column("seq", SEQ, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("device", _NAME, nullable=True),
    Column("detail", Text, nullable=False),
    Index("door_of_device", "device", "seq"),
    sqlite_autoincrement=True,
)
