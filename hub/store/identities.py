"""What the database knows of identities, certificates and tokens; see `hub.fleet.enrolment`.

Written on the coordinator's thread alone. What a function has returned from is on disk.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec
from sqlalchemy import Engine, delete, func, insert, select, update

from hub.store.identity_tables import CERTIFICATES, DOOR, IDENTITIES, TOKENS

IdentityState = Literal["waiting", "enrolled", "rejected", "revoked", "cloned"]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A device's key and what was decided of it. An id is never given twice."""

    device: str
    key: str  # sha256 of the public key, hexadecimal
    public_key: str  # PEM
    state: IdentityState
    asked: float  # Unix time, seconds
    decided: float | None = None
    token: str = ""  # hash of the token with which it came
    reason: str = ""
    certificate: str = ""  # the newest, PEM
    serial: str = ""
    not_before: float = 0.0
    not_after: float = 0.0


class TokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """A token, of which only the hash is known."""

    hash: str
    made: float
    expires: float
    preauthorised: bool
    key: str | None = None  # of the device that used it
    used: float | None = None


class CertificateRow(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that was signed."""

    serial: str
    device: str
    not_after: float
    revoked: float | None = None


class DoorRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at the door."""

    seq: int
    at: float
    kind: str
    device: str | None
    detail: str


class IdentityStore:
    """Identities of a hub.

    Args:
        engine: of the hub's database; its tables exist.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # Identities

    def identity(self, device: str) -> Identity | None:
        """Return what is known of an id."""
        return self._one(IDENTITIES.c.device == device)

    def by_key(self, key: str) -> Identity | None:
        """Return whose key it is."""
        return self._one(IDENTITIES.c.key == key)

    def identities(self) -> list[Identity]:
        """Return all, by id."""
        query = select(IDENTITIES).order_by(IDENTITIES.c.device)
        with self._engine.connect() as connection:
            return [Identity(**row._mapping) for row in connection.execute(query)]

    def save(self, identity: Identity, token: TokenRow | None = None) -> None:
        """Write an identity, and, in the same step, the token that it used up."""
        row = msgspec.structs.asdict(identity)
        with self._engine.begin() as connection:
            found = connection.execute(
                update(IDENTITIES).where(IDENTITIES.c.device == identity.device).values(row)
            )
            if found.rowcount == 0:
                connection.execute(insert(IDENTITIES).values(row))
            if token is not None:
                connection.execute(
                    update(TOKENS)
                    .where(TOKENS.c.hash == token.hash)
                    .values(key=token.key, used=token.used)
                )

    def save_signed(self, identity: Identity) -> None:
        """Write an identity whose certificate is new."""
        signed = {
            "serial": identity.serial,
            "device": identity.device,
            "not_after": identity.not_after,
        }
        with self._engine.begin() as connection:
            connection.execute(insert(CERTIFICATES).values(signed))
        self.save(identity)

    def _one(self, where: object) -> Identity | None:
        query = select(IDENTITIES).where(where)  # type: ignore[arg-type]
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return Identity(**row._mapping) if row is not None else None

    # Certificates

    def revoke(self, device: str, at: float) -> None:
        """Note that all of a device's certificates are revoked."""
        where = (CERTIFICATES.c.device == device, CERTIFICATES.c.revoked.is_(None))
        with self._engine.begin() as connection:
            connection.execute(update(CERTIFICATES).where(*where).values(revoked=at))

    def revoked(self, now: float) -> list[CertificateRow]:
        """Return what a revocation list has to name: revoked, and not expired."""
        query = (
            select(CERTIFICATES)
            .where(CERTIFICATES.c.revoked.is_not(None), CERTIFICATES.c.not_after > now)
            .order_by(CERTIFICATES.c.serial)
        )
        with self._engine.connect() as connection:
            return [CertificateRow(**row._mapping) for row in connection.execute(query)]

    # Tokens

    def add_tokens(self, tokens: Iterable[TokenRow]) -> None:
        """Write new tokens."""
        rows = [msgspec.structs.asdict(one) for one in tokens]
        with self._engine.begin() as connection:
            connection.execute(insert(TOKENS), rows)

    def token(self, digest: str) -> TokenRow | None:
        """Return the token of a hash."""
        query = select(TOKENS).where(TOKENS.c.hash == digest)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return TokenRow(**row._mapping) if row is not None else None

    def forget_tokens(self, before: float) -> None:
        """Delete tokens that nobody used and that expired before a time."""
        where = (TOKENS.c.key.is_(None), TOKENS.c.expires < before)
        with self._engine.begin() as connection:
            connection.execute(delete(TOKENS).where(*where))

    # The door

    def add_door(self, at: float, kind: str, device: str | None, detail: str, most: int) -> None:
        """Write what happened, and forget what is older than the newest ``most``."""
        row = {"at": at, "kind": kind, "device": device, "detail": detail}
        with self._engine.begin() as connection:
            key = connection.execute(insert(DOOR).values(row)).inserted_primary_key
            if key:
                connection.execute(delete(DOOR).where(DOOR.c.seq <= int(key[0]) - most))

    def door(self, device: str | None = None, limit: int = 200) -> list[DoorRow]:
        """Return what happened last (to one device), the oldest first."""
        query = select(DOOR).order_by(DOOR.c.seq.desc()).limit(limit)
        if device is not None:
            query = query.where(DOOR.c.device == device)
        with self._engine.connect() as connection:
            rows = [DoorRow(**row._mapping) for row in connection.execute(query)]
        return rows[::-1]

    def count(self, state: IdentityState) -> int:
        """Return how many identities are in a state."""
        query = select(func.count()).select_from(IDENTITIES).where(IDENTITIES.c.state == state)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())
