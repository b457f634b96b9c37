"""A device that speaks the protocol and trains nothing: it sends small random updates.

Many of them fit into one process, so that a hub meets a fleet that this machine couldn't train.
"""

import hashlib
import queue
import secrets
import threading
import time
from collections import deque
from typing import Any, Literal

import numpy as np

from bench.report import BenchError
from wire.codecs import CODEC_NAMES, by_name
from wire.link import Connected, Link, Received, Will
from wire.manifest import AdapterManifest
from wire.messages import (
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
    Reply,
    Report,
    Result,
    RoundAnnounce,
    RungPlan,
    Take,
    TrainMetrics,
    Welcome,
    encode,
    parse,
)
from wire.tensors import pack
from wire.topics import Topics
from wire.transfer import CHUNK_BYTES, Chunk, chunk_count, decode_chunk, encode_chunk, indices
from wire.version import LORIKEET_VERSION, WIRE_VERSION

_ASK_AGAIN_S = 3.0
_GIVE_UP_S = 60.0
_UPDATE_SCALE = 1e-4


class LightDevice:
    """One device, with a thread of its own.

    Args:
        url: the broker's.
        fleet: the hub's.
        device: its id.
        rank: of its LoRA factors.
        listens: whether it takes the broadcast, as one that trains does; it only counts it.
    """

    def __init__(
        self, url: str, fleet: str, device: str, rank: int, *, listens: bool = False
    ) -> None:
        self.id = device
        self.heard_bytes = 0  # payloads of the broadcast
        self.problem: str | None = None  # why the thread ended too early
        self._rank = rank
        self._session = secrets.token_hex(6)
        self._topics = Topics(fleet)
        self._inbox: queue.Queue[Any] = queue.Queue()
        self._later: deque[Message] = deque()
        self._asked = 0
        self._served: set[str] = set()
        self._stopping = threading.Event()
        will = DeviceState(state="lost", session=self._session, ts=0)
        topic = self._topics.device_state(device)
        self._link = Link(
            url,
            f"{device}-{self._session}",
            self._inbox.put,
            will=Will(topic, encode(will), 1, True),
        )
        for topic in (
            self._topics.reply(device),
            self._topics.command(device),
            self._topics.repair_chunk(device),
            self._topics.job_round(),
            *([self._topics.slice_chunk()] if listens else []),
        ):
            self._link.subscribe(topic)
        self._thread = threading.Thread(target=self._run, name=device, daemon=True)

    def start(self) -> None:
        """Connect, and serve whatever is offered until `stop`."""
        self._link.start()
        self._thread.start()

    def stop(self) -> None:
        """Leave in good order."""
        self._stopping.set()
        self._thread.join(5.0)
        self._link.stop()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                event = self._later.popleft() if self._later else self._next(0.5)
                match event:
                    case Connected() | Report():
                        self._greet()
                    case RoundAnnounce():
                        self._publish_info(event)
                    case Offer() if event.session == self._session:
                        self._serve(event)
                    case _:
                        pass
        except Exception as error:  # told by the bench: a silent thread would only look slow
            self.problem = f"{self.id}: {type(error).__name__}: {error}"

    # Messages

    def _next(self, timeout_s: float) -> object:
        try:
            event = self._inbox.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if not isinstance(event, Received):
            return event
        route = self._topics.parse(event.topic)
        if route is None:
            return None
        if route.kind == "slice_chunk":
            self.heard_bytes += len(event.payload)
            return None
        if route.kind == "repair_chunk":
            return decode_chunk(event.payload)
        return parse(route, event.payload)

    def _ask(self, message: Message, wanted: type[Any] = Reply) -> Any:  # type: ignore[assignment]
        """Send a request until what it asks for comes; set other messages aside."""
        topic = self._topics.request(self.id, str(message.NAME))
        give_up = time.monotonic() + _GIVE_UP_S
        while time.monotonic() < give_up and not self._stopping.is_set():
            self._link.publish(topic, encode(message))
            again = time.monotonic() + _ASK_AGAIN_S
            while (left := again - time.monotonic()) > 0:
                event = self._next(left)
                if isinstance(event, wanted) and (
                    wanted is Chunk or getattr(event, "re", None) == getattr(message, "id", "")
                ):
                    return event
                if isinstance(event, Offer | RoundAnnounce | Report):
                    self._later.append(event)
        raise BenchError(f"no answer to {type(message).__name__} within {_GIVE_UP_S:.0f} s.")

    def _request(self) -> dict[str, Any]:
        self._asked += 1
        return {"id": f"{self._session}-{self._asked}", "session": self._session}

    def _greet(self) -> None:
        hello = Hello(**self._request(), agent_version=LORIKEET_VERSION, wire_version=WIRE_VERSION)
        reply = self._ask(hello)
        if not isinstance(reply, Welcome):
            raise BenchError(f"the hub answered {reply}.")
        state = DeviceState(state="ready", session=self._session, ts=time.time())
        self._link.publish(self._topics.device_state(self.id), encode(state), retain=True)
        self._publish_info(None)

    def _publish_info(self, announce: RoundAnnounce | None) -> None:
        plans = {}
        if announce is not None:
            knobs = announce.knobs
            plans[announce.job] = RungPlan(
                role="lora",
                rung="resident",
                rank=self._rank,
                batch=knobs.batch,
                seq_len=knobs.seq_len,
                predicted_peak_bytes=10**8,
                fits=True,
                reason="a light device of the bench",
            )
        info = DeviceInfo(
            session=self._session,
            ts=time.time(),
            agent_version=LORIKEET_VERSION,
            wire_version=WIRE_VERSION,
            machine="bench",
            cores=1,
            memory_limit_bytes=10**9,
            memory_reason="a light device of the bench",
            codecs=list(CODEC_NAMES),
            plans=plans,
        )
        self._link.publish(self._topics.device_info(self.id), encode(info), retain=True)

    # Tasks

    def _serve(self, offer: Offer) -> None:
        if offer.task in self._served:
            return  # an offer is repeated until it is taken; this one was
        self._served.add(offer.task)
        self._ask(Take(**self._request(), task=offer.task, accept=True))
        losses = [Evaluation(variant=one, loss=2.0, tokens=8192) for one in offer.variants]
        about: dict[str, Any] = {"task": offer.task, "job": offer.job, "round": offer.round}
        if offer.work is None:
            self._ask(self._result(about, evaluations=losses))
            return
        if losses:
            self._ask(Evaluated(**self._request(), **about, evaluations=losses))
        blob = self._update(offer)
        sha256 = self._upload(offer.task, blob)
        train = TrainMetrics(
            steps=offer.work.steps,
            tokens=offer.work.steps * offer.work.batch * offer.work.seq_len,
            loss_first=2.1,
            loss_last=2.0,
            seconds_per_step=0.01,
        )
        self._ask(self._result(about, sha256=sha256, train=train))

    def _result(self, about: dict[str, Any], **fields: Any) -> Result:
        status: Literal["done"] = "done"
        return Result(**self._request(), **about, status=status, **fields)

    def _update(self, offer: Offer) -> bytes:
        manifest = self._manifest(offer)
        seed = int.from_bytes(hashlib.sha256(offer.task.encode()).digest()[:8], "big")
        rng = np.random.default_rng(seed)
        tensors = {
            name: rng.standard_normal(shape, dtype=np.float32) * np.float32(_UPDATE_SCALE)
            for name, shape in manifest.expected_lora(offer.rank).items()
        }
        return pack(tensors, by_name(offer.codec), seed)

    def _manifest(self, offer: Offer) -> AdapterManifest:
        """Fetch the adapter's manifest, chunk by chunk, by the hub's repairs."""
        data = b""
        for index in range(chunk_count(offer.adapter.size_bytes)):
            get = BlobGet(**self._request(), sha256=offer.adapter.sha256, missing=[(index, 1)])
            data += self._ask(get, Chunk).data
        return AdapterManifest.decode(data)

    def _upload(self, task: str, blob: bytes) -> str:
        sha256 = hashlib.sha256(blob).hexdigest()
        init = BlobInit(**self._request(), task=task, sha256=sha256, size_bytes=len(blob))
        reply = self._ask(init)
        while isinstance(reply, Credit):
            for index in indices(reply.missing, chunk_count(len(blob)), reply.window):
                data = blob[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
                topic = self._topics.upload_chunk(self.id)
                while not self._link.publish(topic, encode_chunk(sha256, index, data)):
                    time.sleep(0.01)
            reply = self._ask(BlobFin(**self._request(), task=task, sha256=sha256))
        return sha256
