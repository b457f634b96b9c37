"""What a strategy keeps at the hub between rounds: a blob that names packed ones.

There is one of each part of the adapter that was ever trained, and the devices' control variates.
Each published adapter has its own state; the log says which (`hub.rounds.events.Combined`), so that
a round that is combined again, after a kill or without one device, begins from the same one.
"""

import msgspec

from hub.aggregation.contract import Kind
from hub.rounds.controls import Controls, state_blob
from wire.blobs import BlobStore
from wire.errors import MalformedError


class ServerState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The blobs of a state, by their sha256: of each part, what is kept of its tensors."""

    parts: dict[Kind, str] = {}
    control: str | None = None  # the mean of the devices' control variates
    own_controls: dict[str, str] = {}  # by device

    @property
    def controls(self) -> Controls:
        """The control variates."""
        return Controls(self.control, self.own_controls)

    @property
    def blobs(self) -> set[str]:
        """Of all that it names."""
        found = {*self.parts.values(), *self.own_controls.values()}
        return found if self.control is None else {*found, self.control}

    def encode(self) -> bytes:
        """Return the state as JSON; the same state gives the same bytes."""
        return msgspec.json.encode(self, order="deterministic")


def read_state(store: BlobStore, sha256: str) -> ServerState:
    """Return a state by its sha256.

    Raises:
        MalformedError: the blob is gone or damaged.
    """
    try:
        return msgspec.json.decode(state_blob(store, sha256).read_bytes(), type=ServerState)
    except msgspec.DecodeError as error:
        raise MalformedError(f"blob {sha256[:12]} is no strategy's state: {error}") from error


def state_blobs(store: BlobStore, sha256: str) -> set[str]:
    """Return the digests of all blobs of a state; of one that is gone, its own."""
    if store.path(sha256) is None:
        return {sha256}
    return {sha256, *read_state(store, sha256).blobs}
