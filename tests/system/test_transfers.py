"""Transfers over a real broker: cuts, restarts, lost and forged chunks, on both ways."""

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import Mosquitto
from tests.tcp_proxy import TcpProxy
from tests.transfer_pair import DeviceSide, HubSide, await_true
from wire.chunk_hashes import INLINE_CHUNKS, list_of
from wire.link import Connected, Link, Received
from wire.messages import BlobInit
from wire.transfer import CHUNK_BYTES, WINDOW, encode_chunk

pytestmark = pytest.mark.broker


def some_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def loops() -> Iterator[Callable[[HubSide | DeviceSide], None]]:
    """Starts hubs' and devices' sides; stops them in the end."""
    started: list[HubSide | DeviceSide] = []

    def start(side: HubSide | DeviceSide) -> None:
        side.start()
        started.append(side)
        await_true(lambda: side.link.connected)

    yield start
    for side in started:
        side.stop()


@pytest.fixture
def proxy(broker: Mosquitto) -> Iterator[TcpProxy]:
    proxy = TcpProxy(broker.port)
    yield proxy
    proxy.close()


Start = Callable[[HubSide | DeviceSide], None]


def test_an_update_of_one_chunk_takes_one_question_and_one_chunk(
    broker: Mosquitto, tmp_path: Path, loops: Start
) -> None:
    hub, device = HubSide(broker.url, tmp_path / "hub"), DeviceSide(broker.url, tmp_path / "a")
    loops(hub)
    loops(device)
    data = some_bytes(30_000)
    task = device.upload(data)
    await_true(lambda: task.uploaded)
    assert hub.received == ["blob-init", "chunk"]
    assert device.received == ["reply"]
    path = hub.blobs.path(task.update)
    assert path is not None
    assert path.read_bytes() == data


def test_a_large_update_is_told_of_by_the_hub_and_asked_about_once(
    broker: Mosquitto, tmp_path: Path, loops: Start
) -> None:
    hub, device = HubSide(broker.url, tmp_path / "hub"), DeviceSide(broker.url, tmp_path / "a")
    loops(hub)
    loops(device)
    task = device.upload(some_bytes(40 * CHUNK_BYTES))
    await_true(lambda: task.uploaded)
    assert hub.received.count("blob-init") == hub.received.count("blob-fin") == 1
    # The announcement's, after 4, 8, ... 36 chunks, and the last word.
    assert device.received == ["reply"] * 11


@pytest.mark.parametrize("chunks", [1, 4])
def test_a_small_update_is_announced_as_ever(
    broker: Mosquitto, tmp_path: Path, loops: Start, chunks: int
) -> None:
    hub, device = HubSide(broker.url, tmp_path / "hub"), DeviceSide(broker.url, tmp_path / "a")
    said: list[bytes] = []
    answer = hub.on_event

    def listen(event: Any) -> None:
        if isinstance(event, Received) and event.topic.endswith("/up/req/blob-init"):
            said.append(event.payload)
        answer(event)

    hub.on_event = listen  # type: ignore[method-assign]
    loops(hub)
    loops(device)
    task = device.upload(some_bytes(chunks * CHUNK_BYTES))
    await_true(lambda: task.uploaded)
    assert len(said) == 1
    assert b"unasked" not in said[0]


def test_a_hub_that_tells_nothing_by_itself_is_asked(
    broker: Mosquitto, tmp_path: Path, loops: Start
) -> None:
    """As an older one, which passes the field over."""
    hub, device = HubSide(broker.url, tmp_path / "hub"), DeviceSide(broker.url, tmp_path / "a")
    begin = hub.reception.on_blob_init

    def begin_as_ever(sender: str, message: BlobInit) -> None:
        begin(sender, msgspec.structs.replace(message, unasked=False))

    hub.reception.on_blob_init = begin_as_ever  # type: ignore[method-assign]
    loops(hub)
    loops(device)
    task = device.upload(some_bytes(40 * CHUNK_BYTES))
    await_true(lambda: task.uploaded)
    assert hub.received.count("chunk") == 40
    assert hub.received.count("blob-fin") >= 10


@pytest.mark.parametrize("size", [30_000, 5 * CHUNK_BYTES, 40 * CHUNK_BYTES + 1])
def test_chunks_that_are_lost_are_sent_again_and_only_those(
    broker: Mosquitto, tmp_path: Path, loops: Start, size: int
) -> None:
    hub, device = HubSide(broker.url, tmp_path / "hub"), DeviceSide(broker.url, tmp_path / "a")
    chance, dropped, seen = random.Random(2), list[int](), set[bytes]()

    def drop(payload: bytes) -> bool:
        """The first time, each chunk is lost one time in three; the first one surely."""
        first = payload not in seen
        seen.add(payload)
        if first and (len(seen) == 1 or chance.random() < 1 / 3):
            dropped.append(len(payload))
            return True
        return False

    hub.drop = drop
    loops(hub)
    loops(device)
    task = device.upload(some_bytes(size))
    await_true(lambda: task.uploaded)
    count = -(-size // CHUNK_BYTES)
    assert dropped
    assert hub.received.count("chunk") == count + len(dropped)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_a_cut_at_any_byte_a_window_at_most_is_sent_again(
    broker: Mosquitto, proxy: TcpProxy, tmp_path: Path, loops: Start, seed: int
) -> None:
    size = 5_000_000
    hub, device = HubSide(broker.url, tmp_path / "hub"), DeviceSide(proxy.url, tmp_path / "a")
    loops(hub)
    loops(device)
    proxy.cut_at = random.Random(seed).randrange(10_000, size)
    task = device.upload(some_bytes(size, seed))
    await_true(lambda: task.uploaded, 60)
    assert proxy.cut_at is None, "the cut came"
    count = -(-size // CHUNK_BYTES)
    # Questions, greetings and headers: 200 bytes for each chunk are plenty.
    assert size < proxy.up <= size + WINDOW * CHUNK_BYTES + 200 * count + 10_000


def test_a_hub_that_starts_anew_goes_on_where_the_old_one_was(
    broker: Mosquitto, tmp_path: Path, loops: Start
) -> None:
    old, device = HubSide(broker.url, tmp_path / "hub"), DeviceSide(broker.url, tmp_path / "a")
    seen: list[bytes] = []

    def lose_the_rest(payload: bytes) -> bool:
        seen.append(payload)
        return len(seen) > 20

    old.drop = lose_the_rest
    loops(old)
    loops(device)
    task = device.upload(some_bytes(60 * CHUNK_BYTES))
    await_true(lambda: len(seen) > 24)
    old.stop()
    new = HubSide(broker.url, tmp_path / "hub")
    loops(new)
    await_true(lambda: task.uploaded)
    # 20 were on disk, though nobody had synced them; chunks that came before the upload was
    # begun with this hub are passed over.
    assert new.received.count("chunk") <= 40 + WINDOW


@pytest.mark.parametrize("count", [20, INLINE_CHUNKS + 1])
def test_a_forged_chunk_costs_one_chunk_and_no_more(
    broker: Mosquitto, tmp_path: Path, loops: Start, count: int
) -> None:
    hub, device = HubSide(broker.url, tmp_path / "hub"), DeviceSide(broker.url, tmp_path / "a")
    data = some_bytes(count * CHUNK_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    forged = encode_chunk(sha256, 17, bytes(CHUNK_BYTES))
    put = False

    def forge_first(payload: bytes) -> bool:
        """Before the first chunk is taken, somebody else's chunk 17 is."""
        nonlocal put
        if not put:
            put = True
            hub.reception.on_chunk("a", forged)
        return False

    hub.drop = forge_first
    loops(hub)
    loops(device)
    task = device.upload(data)
    await_true(lambda: task.uploaded, 60)
    path = hub.blobs.path(sha256)
    assert path is not None
    assert path.read_bytes() == data
    # The forged one came beside these; a long list is a chunk of its own.
    assert hub.received.count("chunk") == count + (1 if count > INLINE_CHUNKS else 0)


def test_a_chunk_of_an_unknown_upload_is_dropped(
    broker: Mosquitto, tmp_path: Path, loops: Start
) -> None:
    hub = HubSide(broker.url, tmp_path / "hub")
    loops(hub)
    ready: list[object] = []
    link = Link(broker.url, "stranger", ready.append)
    link.start()
    await_true(lambda: any(isinstance(event, Connected) for event in ready))
    data = some_bytes(1000)
    chunk = encode_chunk(hashlib.sha256(data).hexdigest(), 0, data)
    link.publish(hub.topics.upload_chunk("a"), chunk)
    await_true(lambda: hub.received == ["chunk"])
    link.stop()
    assert hub.blobs.all() == hub.blobs.partials() == []


def test_a_repeated_announcement_of_what_is_here_is_accepted_at_once(
    broker: Mosquitto, tmp_path: Path, loops: Start
) -> None:
    hub, device = HubSide(broker.url, tmp_path / "hub"), DeviceSide(broker.url, tmp_path / "a")
    loops(hub)
    loops(device)
    data = some_bytes(3 * CHUNK_BYTES)
    hub.blobs.put(data)
    task = device.upload(data)
    await_true(lambda: task.uploaded)
    assert hub.received == ["blob-init"]


def test_a_device_that_starts_anew_goes_on_with_its_download(
    broker: Mosquitto, tmp_path: Path, loops: Start
) -> None:
    hub, old = HubSide(broker.url, tmp_path / "hub"), DeviceSide(broker.url, tmp_path / "a")
    loops(hub)
    data = some_bytes(30 * CHUNK_BYTES)
    sha256 = hub.blobs.put(data)
    loops(old)
    key = bytes.fromhex(sha256)[:8]
    old.call(lambda: old.collector.want(sha256, len(data), 0.0, list_of(data)))
    await_true(lambda: old.received.count("repair_chunk") >= 10)
    old.stop()  # nothing is flushed: as if it was killed
    held = old.collector._wants[key].partial.held if key in old.collector._wants else 30
    new = DeviceSide(broker.url, tmp_path / "a")
    loops(new)
    new.call(lambda: new.collector.want(sha256, len(data), 0.0, list_of(data)))
    await_true(lambda: new.gathered == [sha256] or new.blobs.path(sha256) is not None)
    path = new.blobs.path(sha256)
    assert path is not None
    assert path.read_bytes() == data
    # What the hub still had queued for the old one comes as well; it is passed over.
    assert new.received.count("repair_chunk") <= 30 - held + WINDOW
