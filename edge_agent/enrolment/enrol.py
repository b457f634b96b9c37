"""Enrolment from the device's side: key, request, waiting room, certificate.

Each step leaves behind what the next one needs, so a crash costs nothing: the same key comes again
with the same token.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.enrolment.client import (
    EnrolmentClient,
    EnrolmentError,
    UnreachableError,
    pinned_ca,
)
from edge_agent.enrolment.identity import (
    CA,
    Identity,
    Pending,
    identity_folder,
    load_identity,
    load_pending,
    save_identity,
    save_pending,
    set_aside,
)
from edge_agent.enrolment.key import check_certificate, device_key, signing_request
from edge_agent.errors import UsageError
from wire.enrolment import EnrolReply, EnrolRequest, RenewRequest, parse_token
from wire.private_file import write_private

_LONGEST_POLL_S = 60.0


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        hub: URL; None: of the enrolment under way.
        token: likewise.
        name: that the device would like as its id.
        ca: the authority's certificate (PEM), where it came by another way.
        again: make a new key, and an identity of its own.
    """

    hub: str | None
    token: str | None
    name: str
    ca: str | None = None
    again: bool = False

    def __repr__(self) -> str:  # the token is secret
        return f"Wishes(hub={self.hub!r}, name={self.name!r})"


def enrol(
    state: Path,
    wishes: Wishes,
    say: Callable[[str], None],
    pause: Callable[[float], None],
) -> Identity:
    """Enrol a device, waiting for an operator's approval if need be; return its identity.

    Args:
        state: the agent's state folder.
        wishes: of the command line.
        say: takes a line for people.
        pause: waits so many seconds.

    Raises:
        EnrolmentError: the hub refuses, for good.
        UsageError: something is missing, or wrong.
    """
    known = load_identity(state)
    if known is not None and not wishes.again:
        say(f"enrolled already, as {known.device}; --again makes a new key and identity")
        return known
    pending = load_pending(state)
    anew = wishes.again and (known is not None or pending is None or _is_another(pending, wishes))
    pending = _pending(None if anew else pending, wishes)
    parse_token(pending.token)
    if anew:  # only now: what was missing or broken must not cost the device its identity
        set_aside(state)
    save_pending(state, pending)
    key = device_key(state)
    request = EnrolRequest(
        token=pending.token, csr=signing_request(key, pending.name), name=pending.name
    )
    reply = _await_decision(state, pending, wishes.ca, request, say, pause)
    identity = Identity(
        device=reply.device,
        fleet=reply.fleet,
        broker=reply.broker,
        hub=pending.hub,
        not_before=reply.not_before,
        not_after=reply.not_after,
    )
    check_certificate(reply.certificate, reply.ca, reply.device, key)
    save_identity(state, identity, reply.certificate, reply.ca)
    return identity


def renew(state: Path) -> Identity:
    """Get a new certificate for the enrolled key, before the old one's end or after.

    Raises:
        EnrolmentError: the hub refuses, for good.
        UnreachableError: it doesn't answer now.
        UsageError: the device isn't enrolled.
    """
    known = load_identity(state)
    if known is None:
        raise UsageError(f"{state} holds no identity; enrol first: lorikeet-agent enroll.")
    key = device_key(state)
    client = EnrolmentClient(known.hub, (identity_folder(state) / CA).read_text())
    csr = signing_request(key, known.device)
    reply = client.renew(RenewRequest(device=known.device, csr=csr))
    check_certificate(reply.certificate, reply.ca, known.device, key)
    identity = msgspec.structs.replace(
        known,
        fleet=reply.fleet,
        broker=reply.broker,
        not_before=reply.not_before,
        not_after=reply.not_after,
    )
    save_identity(state, identity, reply.certificate, reply.ca)
    return identity


def _is_another(pending: Pending, wishes: Wishes) -> bool:
    """Return whether an enrolment is to begin anew: with another token, not after a crash."""
    return wishes.token is not None and wishes.token.strip() != pending.token


def _pending(before: Pending | None, wishes: Wishes) -> Pending:
    hub = wishes.hub or (before.hub if before else None)
    token = wishes.token or (before.token if before else None)
    if hub is None:
        raise UsageError("--hub is missing; it is https://host:port, as the operator says.")
    if token is None:
        raise UsageError(
            "the token is missing; set LORIKEET_TOKEN or give --token-file. The hub's operator "
            "makes one: lorikeet-hub device token."
        )
    return Pending(hub=hub, token=token.strip(), name=wishes.name)


def _await_decision(  # noqa: PLR0917  (parts of one call)
    state: Path,
    pending: Pending,
    ca: str | None,
    request: EnrolRequest,
    say: Callable[[str], None],
    pause: Callable[[float], None],
) -> EnrolReply:
    client: EnrolmentClient | None = None
    said = ""
    wait_s = 1.0
    while True:
        words = ""
        try:
            if client is None:
                client = _client(state, pending, ca)
            reply = client.enrol(request)
        except UnreachableError as error:
            words = f"{error} Trying again"
            wait_s = min(2 * wait_s, _LONGEST_POLL_S)
        else:
            if reply.state == "enrolled":
                return reply
            if reply.state == "rejected":
                raise EnrolmentError(f"{reply.device!r} was rejected: {reply.reason}.")
            words = (
                f"waiting for approval as {reply.device}; at the hub: lorikeet-hub device "
                f"approve {reply.device}"
            )
            wait_s = min(max(reply.poll_s, 0.1), _LONGEST_POLL_S)
        if words != said:
            say(words)
            said = words
        pause(wait_s)


def _client(state: Path, pending: Pending, ca: str | None) -> EnrolmentClient:
    """Return a client that trusts one authority alone: of a file, or of the token."""
    pem = ca if ca is not None else pinned_ca(pending.hub, parse_token(pending.token))
    write_private(identity_folder(state) / CA, pem.encode())
    return EnrolmentClient(pending.hub, pem)
