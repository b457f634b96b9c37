"""Whether a device may take part now, whatever its broker lets through; pure.

A broker checks a certificate when a connection is made, and may never hear that it was revoked. So
the hub asks here about every message. The broker's access list binds a device's topics to its
certificate's name; that is why a topic tells who speaks.
"""

import time

import msgspec

from hub.store.identities import Identity, IdentityState

RE_ENROL = "lorikeet-agent enroll --again"


class Refusal(msgspec.Struct, frozen=True):
    """Why a device may not take part; ``final``: it can't mend that by itself."""

    reason: str
    final: bool = True


class _Known(msgspec.Struct):
    state: IdentityState
    not_after: float


class Gate:
    """The identities of a fleet, as far as they matter for each message.

    Args:
        identities: all that are known; None where there is no enrolment: everybody may enter.
    """

    def __init__(self, identities: list[Identity] | None) -> None:
        self.open = identities is None
        self._known: dict[str, _Known] = {}
        for one in identities or []:
            self.learn(one)

    def learn(self, identity: Identity) -> None:
        """Take in what was decided of an identity."""
        self._known[identity.device] = _Known(identity.state, identity.not_after)

    def refusal(self, device: str, now: float) -> Refusal | None:
        """Return why a device may not take part; None: it may."""
        if self.open:
            return None
        known = self._known.get(device)
        if known is None:
            return Refusal(
                f"{device!r} is not enrolled at this hub. Get a token from its operator: "
                "lorikeet-agent enroll."
            )
        if known.state != "enrolled":
            return Refusal(_decided(device, known.state))
        if known.not_after < now:
            day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(known.not_after))
            return Refusal(
                f"the certificate of {device!r} expired on {day}. The agent renews it by itself; "
                "see that it reaches the hub's enrolment address over HTTPS.",
                final=False,
            )
        return None


def _decided(device: str, state: IdentityState) -> str:
    if state == "cloned":
        return cloned_words(device)
    if state == "revoked":
        return f"{device!r} was revoked by the hub's operator."
    return f"{device!r} is not approved by the hub's operator."


def cloned_words(device: str) -> str:
    """Return what both machines with one identity are told."""
    return (
        f"two live machines use the identity {device!r}, so neither takes part any more. Enrol "
        f"the copy, or both, anew with a token of its own ({RE_ENROL}); then the operator "
        f"approves {device!r} again, or revokes it."
    )
