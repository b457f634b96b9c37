"""A device that speaks the real protocol but trains nothing: it sends what a test tells it to.

Misbehaviour can't be had from a real agent, so tests of the hub script it here.
"""

import hashlib
import queue
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from wire.codecs import by_name
from wire.link import BrokerSettings, Connected, Link, Received, Will
from wire.manifest import AdapterManifest
from wire.messages import (
    Accepted,
    BlobFin,
    BlobGet,
    BlobInit,
    Credit,
    DeviceInfo,
    DeviceState,
    Evaluated,
    Evaluation,
    Hello,
    Message,
    Offer,
    Refused,
    Result,
    RungPlan,
    Take,
    TrainMetrics,
    Welcome,
    encode,
    parse,
)
from wire.tensors import pack
from wire.topics import Topics
from wire.trained_factors import update_shapes
from wire.transfer import CHUNK_BYTES, Chunk, chunk_count, decode_chunk, encode_chunk

TIMEOUT_S = 30.0


class ScriptedDevice:
    """One device, driven step by step from a test."""

    def __init__(
        self,
        url: str | BrokerSettings,
        fleet: str,
        device: str,
        *,
        role: str = "lora",
        rank: int = 2,
    ) -> None:
        self.id = device
        self.session = hashlib.sha256(f"{device}{time.monotonic_ns()}".encode()).hexdigest()[:12]
        self.topics = Topics(fleet)
        self.role = role
        self.rank = rank
        self.codecs = ["raw", "bf16", "int8"]
        self.tokens = 100  # that it says it trained on
        self.rung = "resident" if role == "lora" else role
        self.offers: list[Offer] = []
        self.seen: list[Message] = []
        self.chunks: list[bytes] = []
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._number = 0
        self.link = Link(
            url,
            f"{device}-{self.session}",
            self._inbox.put,
            will=Will(
                self.topics.device_state(device),
                encode(DeviceState(state="lost", session=self.session, ts=0)),
                1,
                True,
            ),
        )
        for topic in (
            self.topics.reply(device),
            self.topics.command(device),
            self.topics.repair_chunk(device),
            self.topics.job_round(),
        ):
            self.link.subscribe(topic)
        self.link.start()
        self._await(lambda event: isinstance(event, Connected))

    # Talking

    def greet(self) -> Welcome | Refused:
        request = self.number()
        hello = Hello(id=request, session=self.session, agent_version="test", wire_version=1)
        return self.ask(hello)  # type: ignore[return-value]

    def describe(self, job: str) -> None:
        """Publish state and info with one plan."""
        plan = RungPlan(
            role=self.role,  # type: ignore[arg-type]
            rung=self.rung,
            rank=self.rank if self.role == "lora" else 0,
            batch=1,
            seq_len=32,
            predicted_peak_bytes=10**8,
            fits=True,
            reason="scripted",
        )
        state = DeviceState(state="ready", session=self.session, ts=time.time())
        info = DeviceInfo(
            session=self.session,
            ts=time.time(),
            agent_version="test",
            wire_version=1,
            machine="test",
            cores=1,
            memory_limit_bytes=10**9,
            memory_reason="test",
            codecs=self.codecs,
            plans={job: plan},
        )
        self.link.publish(self.topics.device_state(self.id), encode(state), 1, retain=True)
        self.link.publish(self.topics.device_info(self.id), encode(info), 1, retain=True)

    def number(self) -> str:
        self._number += 1
        return str(self._number)

    def ask(self, message: Any) -> Message:
        """Send a request, again every three seconds, until its reply comes; return the reply."""
        topic = self.topics.request(self.id, str(message.NAME))
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            self.link.publish(topic, encode(message), message.QOS)
            reply = self._await(lambda e: getattr(e, "re", None) == message.id, 3.0)
            if reply is not None:
                return reply  # type: ignore[no-any-return]
        raise TimeoutError(f"no reply to {message}")

    def await_offer(self, round_: int | None = None, timeout_s: float = TIMEOUT_S) -> Offer:
        """Return the next offer (of a round), waiting for it."""

        def fits(event: Any) -> bool:
            return isinstance(event, Offer) and round_ in (None, event.round)

        for offer in self.offers:
            if fits(offer):
                self.offers.remove(offer)
                return offer
        offer = self._await(fits, timeout_s)
        if offer is None:
            raise TimeoutError(f"{self.id} got no offer; saw {self.seen[-5:]}")
        self.offers = [o for o in self.offers if o.task != offer.task]
        return offer  # type: ignore[no-any-return]

    def pump(self, seconds: float) -> None:
        """Take in whatever arrives for a while."""
        self._await(lambda _event: False, seconds)

    def _await(self, wanted: Callable[[Any], bool], timeout_s: float = TIMEOUT_S) -> Any:
        deadline = time.monotonic() + timeout_s
        while True:
            self._tick()
            left_s = deadline - time.monotonic()
            try:
                event = self._inbox.get(timeout=min(0.1, max(0.001, left_s)))
            except queue.Empty:
                if left_s <= 0:
                    return None
                continue
            event = self._read(event)
            if event is None:
                continue
            if wanted(event):
                return event
            if isinstance(event, Offer) and event.task not in [o.task for o in self.offers]:
                self.offers.append(event)

    def _tick(self) -> None:
        """Do what is due; called between events."""

    def _read(self, event: Any) -> Any:
        """Return what an event of the link says: a message, a chunk, itself; None: nothing."""
        if not isinstance(event, Received):
            return event
        route = self.topics.parse(event.topic)
        if route is None:
            return None
        if route.kind == "repair_chunk":
            self.chunks.append(event.payload)
            return decode_chunk(event.payload)
        message = parse(route, event.payload)
        if message is not None:
            self.seen.append(message)
        return message

    # Tasks

    def take(self, offer: Offer, *, accept: bool = True) -> Message:
        return self.ask(
            Take(
                id=self.number(),
                session=self.session,
                task=offer.task,
                accept=accept,
                reason=None if accept else "scripted",
            )
        )

    def download(self, sha256: str, size_bytes: int) -> bytes:
        """Fetch a blob by asking for its chunks one by one."""
        data = bytearray(size_bytes)
        for index in range(chunk_count(size_bytes)):
            get = BlobGet(
                id=self.number(), session=self.session, sha256=sha256, missing=[(index, 1)]
            )
            self.ask(get)
            chunk = self._await(lambda e, i=index: getattr(e, "index", None) == i, 5.0)
            start = index * CHUNK_BYTES
            data[start : start + len(chunk.data)] = chunk.data
        assert hashlib.sha256(data).hexdigest() == sha256
        return bytes(data)

    def manifest(self, offer: Offer) -> AdapterManifest:
        return AdapterManifest.decode(self.download(offer.adapter.sha256, offer.adapter.size_bytes))

    def make_update(self, offer: Offer, *, scale: float = 1e-3, seed: int = 0) -> bytes:
        """Return a well-formed update of small random numbers."""
        manifest = self.manifest(offer)
        assert offer.work is not None
        shapes = {
            "lora": update_shapes(manifest.expected_lora(offer.rank), offer.work.trains),
            "prompt": manifest.expected_prompt(),
            "full": manifest.expected_full(),
        }[offer.role]
        rng = np.random.default_rng(seed)
        tensors = {
            name: (rng.standard_normal(shape) * scale).astype(np.float32)
            for name, shape in shapes.items()
        }
        return pack(tensors, by_name(offer.codec), seed)

    def upload(self, offer: Offer, blob: bytes, *, stop_after: int | None = None) -> Message:
        """Upload a blob; ``stop_after`` chunks ends half-way and returns the last credit."""
        sha256 = hashlib.sha256(blob).hexdigest()
        reply = self.ask(
            BlobInit(
                id=self.number(),
                session=self.session,
                task=offer.task,
                sha256=sha256,
                size_bytes=len(blob),
            )
        )
        sent = 0
        while isinstance(reply, Credit):
            for first, count in reply.missing:
                for index in range(first, first + count):
                    if stop_after is not None and sent >= stop_after:
                        return reply
                    self.send_chunk(sha256, index, blob)
                    sent += 1
            reply = self.ask(
                BlobFin(id=self.number(), session=self.session, task=offer.task, sha256=sha256)
            )
        return reply

    def send_chunk(self, sha256: str, index: int, blob: bytes) -> None:
        start = index * CHUNK_BYTES
        data = blob[start : start + CHUNK_BYTES]
        while not self.link.publish(
            self.topics.upload_chunk(self.id),
            encode_chunk(sha256, index, data),
            Chunk.QOS["upload_chunk"],
        ):
            self._tick()
            time.sleep(0.01)

    def result(
        self,
        offer: Offer,
        blob: bytes | None,
        *,
        status: str = "done",
        request: str | None = None,
        base: str = "",
    ) -> Message:
        """Report a task's end."""
        return self.ask(
            Result(
                id=request or self.number(),
                session=self.session,
                task=offer.task,
                job=offer.job,
                round=offer.round,
                status=status,  # type: ignore[arg-type]
                sha256=hashlib.sha256(blob).hexdigest() if blob is not None else None,
                reason=None if status == "done" else "scripted",
                train=TrainMetrics(
                    steps=1, tokens=self.tokens, loss_first=2.0, loss_last=1.9, seconds_per_step=0.1
                )
                if offer.kind == "train"
                else None,
                evaluations=self.losses(offer) if offer.kind == "evaluate" else [],
                peak_bytes=1,
                base=base,
            )
        )

    def losses(self, offer: Offer) -> list[Evaluation]:
        return [Evaluation(variant=v, loss=2.0, tokens=10) for v in offer.variants]

    def evaluated(self, offer: Offer) -> Message:
        return self.ask(
            Evaluated(
                id=self.number(),
                session=self.session,
                task=offer.task,
                job=offer.job,
                round=offer.round,
                evaluations=self.losses(offer),
            )
        )

    def serve(self, offer: Offer) -> Message:
        """Do an offered task as an honest device does."""
        self.take(offer)
        if offer.kind == "evaluate":
            return self.result(offer, None)
        blob = self.make_update(offer)
        assert isinstance(self.upload(offer, blob), Accepted)
        return self.result(offer, blob)

    def vanish(self) -> None:
        """Break the connection: the broker publishes the will."""
        self.link._stopping.set()
        connection = self.link._connection
        socket: Any = connection.client.socket() if connection is not None else None
        if socket is not None:
            socket.shutdown(2)

    def close(self) -> None:
        self.link.stop()
