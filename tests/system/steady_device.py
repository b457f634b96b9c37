"""A scripted device that gets over faults, as an agent does: everything but the training is real.

It greets anew whenever link or hub are new, gathers what is broadcast with the agent's own
collector, asks for gaps, and begins an upload again until it is accepted.
"""

import hashlib
import time
from pathlib import Path
from typing import Any

from edge_agent.collect import Collector
from tests.scripted_device import TIMEOUT_S, ScriptedDevice
from tests.system.hub_process import FLEET
from wire.blobs import BlobStore
from wire.chunk_hashes import list_of
from wire.errors import MalformedError
from wire.link import Connected, Received
from wire.manifest import AdapterManifest
from wire.messages import (
    Accepted,
    AdapterRef,
    BlobFin,
    BlobGet,
    BlobInit,
    Credit,
    DeviceState,
    Hello,
    HubState,
    Message,
    Offer,
    Ranges,
    Report,
    RoundAnnounce,
    Welcome,
    encode,
)


class DeviceKilledError(Exception):
    """This device was killed in the middle of what it did."""


class SteadyDevice(ScriptedDevice):
    """One device that does its work whatever happens around it.

    Args:
        url: of the broker, or of what stands before it.
        device: its id.
        folder: its disk; another device object that gets it is the same device after a restart.
        job: which it plans for.
        rank: of its factors.
    """

    def __init__(self, url: str, device: str, folder: Path, job: str, rank: int) -> None:
        self._job = job
        self._dead = False
        self._epoch: str | None = None
        self._newest: AdapterRef | None = None
        self._store = BlobStore(folder)
        self._collector = Collector(self._store, self._ask_blob)
        self.dropped = 0  # chunks that were no chunks any more
        super().__init__(url, FLEET, device, rank=rank)
        self.link.subscribe(self.topics.hub_state())
        self.link.subscribe(self.topics.slice_chunk())
        assert isinstance(self.greet(), Welcome)

    def die(self) -> None:
        """Stop at once, on whatever thread: whatever it does next raises `DeviceKilledError`."""
        self._dead = True

    def close(self) -> None:
        """Leave in good order, so that the next one of this id needs not wait."""
        if not self._dead:
            gone = DeviceState(state="disconnected", session=self.session, ts=time.time())
            self.link.publish(self.topics.device_state(self.id), encode(gone), retain=True)
        super().close()

    # Events

    def _tick(self) -> None:
        if self._dead:
            raise DeviceKilledError(self.id)
        self._collector.tick(time.monotonic())

    def _read(self, event: Any) -> Any:
        if isinstance(event, Connected):
            self._say_hello()
        if isinstance(event, Received):
            route = self.topics.parse(event.topic)
            if route is not None and route.kind in ("slice_chunk", "repair_chunk"):
                self._on_chunk(event.payload)
                return None
        found = super()._read(event)
        match found:
            case Report():
                self._say_hello()
            case HubState(online=True) if found.epoch != self._epoch:
                self._epoch = found.epoch
                self._say_hello()
            case Welcome() if found.session == self.session:
                self.describe(self._job)
            case RoundAnnounce(job=self._job) if found.adapter is not None:
                self._newest = found.adapter
                self._gathered(found.adapter)
        return found

    def _say_hello(self) -> None:
        hello = Hello(id=self.number(), session=self.session, agent_version="test", wire_version=1)
        self.link.publish(self.topics.request(self.id, "hello"), encode(hello), hello.QOS)

    # Down

    def _on_chunk(self, payload: bytes) -> None:
        try:
            done = self._collector.on_chunk(payload, time.monotonic())
        except MalformedError:
            self.dropped += 1
            return
        if done is not None and self._newest is not None:
            self._gathered(self._newest)

    def _ask_blob(self, sha256: str, missing: Ranges) -> None:
        get = BlobGet(id=self.number(), session=self.session, sha256=sha256, missing=missing)
        self.link.publish(self.topics.request(self.id, "blob-get"), encode(get), get.QOS)

    def _gathered(self, reference: AdapterRef) -> AdapterManifest | None:
        """Return an adapter's manifest once all of its parts are here, whole."""
        now = time.monotonic()
        if not self._collector.want(reference.sha256, reference.size_bytes, now):
            return None
        path = self._store.path(reference.sha256)
        assert path is not None
        manifest = AdapterManifest.decode(path.read_bytes())
        here = [self._collector.want(p.sha256, p.size_bytes, now) for p in manifest.parts]
        return manifest if all(here) else None

    def manifest(self, offer: Offer) -> AdapterManifest:
        """Return the manifest of an offer's adapter, all of which is on this device's disk."""
        deadline = time.monotonic() + 2 * TIMEOUT_S
        while time.monotonic() < deadline:
            manifest = self._gathered(offer.adapter)
            if manifest is not None:
                return manifest
            self.pump(0.02)
        raise TimeoutError(f"{self.id} lacks parts of {offer.adapter}")

    # Up

    def upload(self, offer: Offer, blob: bytes, *, stop_after: int | None = None) -> Message:
        """Upload until it is accepted; begin anew when the hub knows nothing of it."""
        assert stop_after is None
        sha256 = hashlib.sha256(blob).hexdigest()
        about = {"session": self.session, "task": offer.task, "sha256": sha256}
        deadline = time.monotonic() + 2 * TIMEOUT_S
        while time.monotonic() < deadline:
            reply = self.ask(BlobInit(id=self.number(), size_bytes=len(blob), **about))
            while isinstance(reply, Credit) and time.monotonic() < deadline:
                for first, count in reply.missing:
                    for index in range(first, first + min(count, reply.window)):
                        self.send_chunk(sha256, index, blob)
                if reply.wrong:
                    hashes = list_of(blob)
                    reply = self.ask(
                        BlobInit(id=self.number(), size_bytes=len(blob), hashes=hashes, **about)
                    )
                else:
                    reply = self.ask(BlobFin(id=self.number(), **about))
            if isinstance(reply, Accepted):
                return reply
        raise TimeoutError(f"{self.id}: the update of {offer.task} was not accepted: {reply}")

    def send_chunk(self, sha256: str, index: int, blob: bytes) -> None:
        self._tick()
        super().send_chunk(sha256, index, blob)

    def ask(self, message: Any) -> Message:
        self._tick()
        return super().ask(message)
