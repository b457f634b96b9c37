"""What every job of a hub shares: the link, the devices, the stores, the clock."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from hub.fleet.sessions import Sessions
from hub.rounds.adapters import Adapters
from hub.rounds.broadcast import Broadcast
from hub.store.database import Store
from wire.blobs import BlobStore
from wire.inbox import Inbox
from wire.link import Link
from wire.messages import Message, encode
from wire.topics import Topics


class Call(msgspec.Struct, frozen=True):
    """Something to be done on the coordinator's thread."""

    work: Callable[[], None]


class Desk:
    """Shared by the coordinator and its jobs; used on the coordinator's thread only.

    Attributes:
        http: where devices fetch bases.
        folder: for what the hub keeps besides database and blobs.
        inbox: of the coordinator.
        needed_blobs: returns the digests of all blobs that some job may still need.
    """

    def __init__(
        self,
        *,
        link: Link,
        topics: Topics,
        sessions: Sessions,
        store: Store,
        blobs: BlobStore,
        inbox: Inbox,
        http: str,
        folder: Path,
        needed_blobs: Callable[[], set[str]],
    ) -> None:
        self.link = link
        self.topics = topics
        self.sessions = sessions
        self.store = store
        self.blobs = blobs
        self.adapters = Adapters(blobs)
        self.broadcast = Broadcast(link)
        self.http = http
        self.folder = folder
        self.needed_blobs = needed_blobs
        self._inbox = inbox
        # One thread: combining and checking read the same blobs, and memory counts once.
        self._pool = ThreadPoolExecutor(1, "combine")
        # What takes minutes has another, so that nobody's update waits for it to be checked.
        self._long = ThreadPoolExecutor(1, "own-text")

    def now(self) -> float:
        """Return Unix time, in seconds: what events are logged with."""
        return time.time()

    def background(
        self, work: Callable[[], Any], then: Callable[[Any], None], *, takes_long: bool = False
    ) -> None:
        """Run something slow on another thread, and ``then`` on ours.

        Args:
            work: what is slow; of all that ``takes_long``, one runs at a time, too.
            then: gets the result, or the exception.
            takes_long: minutes rather than seconds.
        """

        def done(future: "Future[Any]") -> None:
            if future.cancelled():
                return
            outcome = future.exception() or future.result()
            self._inbox.put(Call(lambda: then(outcome)))

        pool = self._long if takes_long else self._pool
        pool.submit(work).add_done_callback(done)

    def command(self, device: str, command: Message, *, expiry_s: int | None = None) -> bool:
        """Tell one device something.

        Args:
            device: its id.
            command: what to tell.
            expiry_s: after which the broker need not deliver it any more, in seconds.
        """
        topic = self.topics.command(device, str(command.NAME))
        return self.link.publish(topic, encode(command), command.QOS, expiry_s=expiry_s)

    def close(self) -> None:
        """Let the other threads finish what they began."""
        for pool in (self._pool, self._long):
            pool.shutdown(wait=True, cancel_futures=True)
