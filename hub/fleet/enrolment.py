"""Who gets a certificate: tokens, the waiting room, renewal, revocation.

Used on the coordinator's thread; the clock is an argument. A request is safe to repeat: the first
use of a token binds it to the device's key, and whoever has that key hears again what was decided,
so a lost answer burns no token.
"""

import hmac
import re
from typing import NoReturn

import msgspec

from hub.errors import ConflictError, HubError, NotFoundError
from hub.fleet.authority import Authority, Revoked
from hub.fleet.csr import DeviceKey, public_key
from hub.fleet.gate import Gate, cloned_words
from hub.fleet.notes import Notes
from hub.store.identities import Identity, IdentityStore, TokenRow
from wire.enrolment import EnrolReply, new_token, parse_token, token_hash
from wire.errors import MalformedError

#: The common name of the hub's own certificate: no device's id.
HUB_NAME = "hub"
_RESERVED = (HUB_NAME,)
_MAX_NAME = 56  # leaves room for a number behind it
_KEPT_TOKENS_S = 30 * 86_400.0


class EnrolmentRefusedError(HubError):
    """A device's request is refused, with words for the device.

    Args:
        status: of HTTP.
    """

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.status = status


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What an enrolled device gets.

    Attributes:
        broker: its URL, as devices reach it.
        lifetime_s: of a certificate.
        poll_s: how often a device in the waiting room asks.
    """

    fleet: str
    broker: str
    lifetime_s: float
    poll_s: float = 5.0


class Enrolment:
    """The desk at the door.

    Args:
        store: remembers everything.
        authority: signs.
        gate: learns what is decided.
        notes: for the operator.
        terms: what devices get.
    """

    def __init__(
        self,
        store: IdentityStore,
        authority: Authority,
        gate: Gate,
        notes: Notes,
        terms: Terms,
    ) -> None:
        self.store = store
        self.authority = authority
        self.gate = gate
        self.notes = notes
        self._terms = terms

    # For the operator

    def make_tokens(
        self, count: int, expires_s: float, now: float, *, preauthorised: bool = False
    ) -> list[str]:
        """Return new single-use tokens; nobody can ask for them again.

        Args:
            count: how many.
            expires_s: how long each may be used for the first time, in seconds.
            now: Unix time, in seconds.
            preauthorised: their devices need no approval.
        """
        self.store.forget_tokens(now - _KEPT_TOKENS_S)
        made = [new_token(self.authority.der) for _ in range(count)]
        self.store.add_tokens(
            TokenRow(
                hash=token_hash(one.secret),
                made=now,
                expires=now + expires_s,
                preauthorised=preauthorised,
            )
            for one in made
        )
        return [one.text for one in made]

    def approve(self, device: str, now: float) -> Identity:
        """Let a device in: from the waiting room, after a rejection, or after a clone was noticed.

        Raises:
            NotFoundError: nobody asked under this id.
            ConflictError: it was revoked, which is for good.
        """
        identity = self._identity(device)
        if identity.state == "revoked":
            raise ConflictError(f"{device!r} was revoked, for good; let it enrol anew.")
        if identity.state == "enrolled":
            return identity
        if identity.certificate:
            identity = self._decide(identity, "enrolled", "", now)
        else:
            identity = self._sign(identity, now)
        self.notes.note("approved", device, "approved by the operator", now)
        return identity

    def reject(self, device: str, reason: str, now: float) -> Identity:
        """Send a device in the waiting room away.

        Raises:
            NotFoundError: nobody asked under this id.
            ConflictError: it is not waiting.
        """
        identity = self._identity(device)
        if identity.state not in ("waiting", "rejected"):
            raise ConflictError(f"{device!r} is {identity.state}; revoke it instead.")
        words = reason or "rejected by the operator"
        identity = self._decide(identity, "rejected", words, now)
        self.notes.note("rejected", device, words, now)
        return identity

    def revoke(self, device: str, reason: str, now: float) -> Identity:
        """Take a device's certificates back, for good; its id is not given again.

        Raises:
            NotFoundError: nobody asked under this id.
        """
        identity = self._identity(device)
        words = reason or "revoked by the operator"
        if identity.state != "revoked":
            identity = self._decide(identity, "revoked", words, now)
            self.notes.note("revoked", device, words, now)
        self.store.revoke(device, now)
        return identity

    def revocation_list(self, now: float) -> bytes:
        """Return what brokers read (PEM)."""
        rows = self.store.revoked(now)
        lines = [Revoked(one.serial, one.revoked or now) for one in rows]
        return self.authority.revocation_list(lines, now)

    # For devices

    def enrol(
        self, token_text: str, key: DeviceKey, name: str, where: str, now: float
    ) -> EnrolReply:
        """Answer a device that comes with a token.

        Args:
            token_text: as it came.
            key: whose private half the device has shown to have.
            name: that it would like.
            where: its network address.
            now: Unix time, in seconds.

        Raises:
            EnrolmentRefusedError: the token isn't good for this key.
        """
        token = self._token(token_text, key, where, now)
        identity = self.store.by_key(key.sha256)
        if identity is None:
            identity = self._admit(token, key, name, where, now)
        elif identity.token != token.hash:
            self._refuse_token(
                f"this key is enrolled as {identity.device!r} already; make another with "
                "lorikeet-agent enroll --again",
                where,
                now,
            )
        return self._reply(identity)

    def renew(self, device: str, key: DeviceKey, where: str, now: float) -> EnrolReply:
        """Answer a device that shows its enrolled key, before its certificate's end or after.

        Raises:
            EnrolmentRefusedError: it is not enrolled, or the key is another.
        """
        identity = self.store.identity(device)
        if identity is None or not hmac.compare_digest(identity.key, key.sha256):
            self.notes.note("request_refused", None, f"{where} asked to renew with a key that "
                            "isn't enrolled", now)  # fmt: skip
            raise EnrolmentRefusedError("no device of this hub has that id and key; enrol anew.")
        if identity.state != "enrolled":
            words = cloned_words(device) if identity.state == "cloned" else identity.reason
            refused = f"renewal refused: it is {identity.state}"
            self.notes.note("request_refused", device, refused, now)
            raise EnrolmentRefusedError(f"{device!r} is {identity.state}: {words}")
        if now - identity.not_before > self._terms.lifetime_s / 10:  # else an answer was lost
            identity = self._sign(identity, now)
            self.notes.note("renewed", device, f"certificate renewed for {where}", now)
        return self._reply(identity)

    def cloned(self, device: str, now: float) -> None:
        """Note that two live machines have one identity."""
        identity = self.store.identity(device)
        if identity is not None and identity.state == "enrolled":
            self._decide(identity, "cloned", cloned_words(device), now)
            self.notes.note("cloned", device, cloned_words(device), now)

    # Parts

    def _token(self, text: str, key: DeviceKey, where: str, now: float) -> TokenRow:
        """Return the token, if this key may use it."""
        try:
            digest = token_hash(parse_token(text).secret)
        except MalformedError as error:
            self._refuse_token(str(error).removesuffix("."), where, now)
        # Looked up by its hash: how long that takes tells nothing of a secret of 192 bits.
        row = self.store.token(digest)
        if row is None or not hmac.compare_digest(row.hash, digest):
            self._refuse_token("the token is not one of this hub, or long forgotten", where, now)
        if row.key is not None and not hmac.compare_digest(row.key, key.sha256):
            self._refuse_token("the token was used by another device already", where, now)
        if row.key is None and row.expires < now:
            self._refuse_token("the token has expired", where, now)
        return row

    def _refuse_token(self, reason: str, where: str, now: float) -> NoReturn:
        self.notes.note("token_refused", None, f"{where}: {reason}", now)
        raise EnrolmentRefusedError(f"{reason}. Ask the hub's operator for a new token.")

    def _admit(
        self, token: TokenRow, key: DeviceKey, name: str, where: str, now: float
    ) -> Identity:
        identity = Identity(
            device=self._mint(name, key),
            key=key.sha256,
            public_key=key.pem,
            state="waiting",
            asked=now,
            token=token.hash,
        )
        self.store.save(identity, msgspec.structs.replace(token, key=key.sha256, used=now))
        self.gate.learn(identity)
        self.notes.note("asked", identity.device, f"asks to enrol, from {where}", now)
        if token.preauthorised:
            identity = self._sign(identity, now)
        return identity

    def _mint(self, name: str, key: DeviceKey) -> str:
        """Return an id that nobody had before: what is revoked by id stays so."""
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:_MAX_NAME]
        base = base or f"device-{key.sha256[:8]}"
        minted, number = base, 1
        while minted.lower() in _RESERVED or self.store.identity(minted) is not None:
            number += 1
            minted = f"{base}-{number}"
        return minted

    def _sign(self, identity: Identity, now: float) -> Identity:
        signed = self.authority.sign_client(
            identity.device, public_key(identity.public_key), now, self._terms.lifetime_s
        )
        first = not identity.certificate
        identity = msgspec.structs.replace(
            identity,
            state="enrolled",
            decided=now if first else identity.decided,
            reason="",
            certificate=signed.pem,
            serial=signed.serial,
            not_before=now,
            not_after=signed.not_after,
        )
        self.store.save_signed(identity)
        self.gate.learn(identity)
        if first:
            self.notes.note("enrolled", identity.device, "has its first certificate", now)
        return identity

    def _decide(self, identity: Identity, state: str, reason: str, now: float) -> Identity:
        decided = msgspec.structs.replace(identity, state=state, reason=reason, decided=now)
        self.store.save(decided)
        self.gate.learn(decided)
        return decided

    def _identity(self, device: str) -> Identity:
        identity = self.store.identity(device)
        if identity is None:
            raise NotFoundError(f"no device {device!r} ever asked to enrol here.")
        return identity

    def _reply(self, identity: Identity) -> EnrolReply:
        device = identity.device
        match identity.state:
            case "waiting":
                return EnrolReply(state="waiting", device=device, poll_s=self._terms.poll_s)
            case "rejected":
                return EnrolReply(state="rejected", device=device, reason=identity.reason)
            case "enrolled":
                return EnrolReply(
                    state="enrolled",
                    device=device,
                    certificate=identity.certificate,
                    ca=self.authority.pem,
                    fleet=self._terms.fleet,
                    broker=self._terms.broker,
                    not_before=identity.not_before,
                    not_after=identity.not_after,
                )
            case _:
                raise EnrolmentRefusedError(f"{device!r} is {identity.state}: {identity.reason}")
