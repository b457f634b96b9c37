"""What an enrolled device has in its state folder. Read by the idle agent, so without cryptography.

``identity/`` holds ``key.pem``, ``certificate.pem``, ``ca.pem`` and ``identity.json``, each for its
owner alone. ``identity.json`` is written last: without it, the device isn't enrolled.
"""

import time
from pathlib import Path

import msgspec

from edge_agent.errors import AgentError
from wire.broker_settings import BrokerSettings
from wire.private_file import write_private

FOLDER = "identity"
KEY, CERTIFICATE, CA, NOTE, PENDING = (
    "key.pem",
    "certificate.pem",
    "ca.pem",
    "identity.json",
    "pending.json",
)
DAY_S = 86_400.0
#: Under which the worker finds the authority, beside the system's, when it fetches models.
CA_VARIABLE = "LORIKEET_CA_FILE"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who this device is, and where its hub is."""

    device: str
    fleet: str
    broker: str  # URL
    hub: str  # URL, https
    not_before: float  # Unix time, seconds
    not_after: float

    def days_left(self, now: float) -> float:
        """Return how long the certificate is good, in days; negative: it has expired."""
        return (self.not_after - now) / DAY_S

    def renew_at(self) -> float:
        """Return when it is to be renewed: after two thirds of its lifetime."""
        return self.not_before + (self.not_after - self.not_before) * 2 / 3


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """An enrolment under way; it goes on after a crash."""

    hub: str
    token: str
    name: str


def identity_folder(state: Path) -> Path:
    """Return where a device's identity is."""
    return state / FOLDER


def load_identity(state: Path) -> Identity | None:
    """Return the identity in a state folder; None: it isn't enrolled.

    Raises:
        AgentError: the note is damaged.
    """
    path = identity_folder(state) / NOTE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AgentError(
            f"{path} can't be read: {error}. Enrol anew: lorikeet-agent enroll --again."
        ) from error


def save_identity(state: Path, identity: Identity, certificate: str, ca: str) -> None:
    """Write an identity beside its key; what was under way is done."""
    folder = identity_folder(state)
    write_private(folder / CA, ca.encode())
    write_private(folder / CERTIFICATE, certificate.encode())
    write_private(folder / NOTE, msgspec.json.format(msgspec.json.encode(identity)) + b"\n")
    (folder / PENDING).unlink(missing_ok=True)


def load_pending(state: Path) -> Pending | None:
    """Return the enrolment that is under way; None: there is none."""
    try:
        return msgspec.json.decode((identity_folder(state) / PENDING).read_bytes(), type=Pending)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def save_pending(state: Path, pending: Pending) -> None:
    """Remember an enrolment, its token included, until it has come to an end."""
    write_private(identity_folder(state) / PENDING, msgspec.json.encode(pending))


def set_aside(state: Path) -> None:
    """Move an identity out of the way: its key may have been copied."""
    folder = identity_folder(state)
    if folder.exists():
        folder.rename(state / f"{FOLDER}.before-{int(time.time())}")


def with_certificate(broker: BrokerSettings, state: Path) -> BrokerSettings:
    """Return a broker's settings with the device's certificate, where others aren't given."""
    if not broker.address().secure or broker.cert_file is not None:
        return broker
    folder = identity_folder(state).absolute()
    return msgspec.structs.replace(
        broker,
        ca_file=broker.ca_file or str(folder / CA),
        cert_file=str(folder / CERTIFICATE),
        key_file=str(folder / KEY),
    )
