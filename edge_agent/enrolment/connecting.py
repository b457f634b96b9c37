"""With what an agent connects: its identity where it has one, unless the options say otherwise."""

from pathlib import Path

import msgspec

from edge_agent.enrolment.identity import load_identity, with_certificate
from edge_agent.errors import UsageError
from wire.broker_settings import BrokerSettings

DEFAULT_FLEET = "default"


class Connecting(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, and then what holds."""

    broker: BrokerSettings
    fleet: str
    device: str
    enrolled: bool  # the certificate is the hub's


def connecting(
    broker: BrokerSettings,
    fleet: str | None,
    device: str | None,
    state: Path,
    default_device: str,
) -> Connecting:
    """Return with what to connect.

    Args:
        broker: of the options; its URL is empty where none was given.
        fleet: of the options.
        device: of the options.
        state: the agent's state folder, which may hold an identity.
        default_device: the id of one that isn't enrolled.

    Raises:
        UsageError: nothing says where the broker is, or the id is another than the certificate's.
    """
    identity = load_identity(state)
    own = bool(broker.url)
    if not own and identity is None:
        raise UsageError(
            "--broker is missing, and this device is not enrolled. Give its URL, or enrol first: "
            "lorikeet-agent enroll."
        )
    if identity is None or broker.cert_file is not None or (own and not broker.address().secure):
        if not own:
            raise UsageError("--broker is missing beside --broker-cert-file; give its URL.")
        return Connecting(
            broker=broker,
            fleet=fleet or DEFAULT_FLEET,
            device=device or default_device,
            enrolled=False,
        )
    if device not in (None, identity.device):
        raise UsageError(
            f"--id is {device!r}; this device is enrolled as {identity.device!r}. Leave --id out, "
            "or give another --state."
        )
    where = broker if own else msgspec.structs.replace(broker, url=identity.broker)
    return Connecting(
        broker=with_certificate(where, state),
        fleet=fleet or identity.fleet,
        device=identity.device,
        enrolled=True,
    )
