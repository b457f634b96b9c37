"""A device's limits, counted byte by byte at a proxy between it and a real broker."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.metering import Limits
from tests.conftest import Mosquitto
from tests.tcp_proxy import TcpProxy
from tests.transfer_pair import DeviceSide, HubSide, await_true
from wire.transfer import CHUNK_BYTES

pytestmark = pytest.mark.broker

SIZE = 16 * CHUNK_BYTES
BITS_PER_S = 4_000_000
#: 2026-11-21, 12:00:00 UTC.
NOON = 1_795_262_400.0


@pytest.fixture
def proxy(broker: Mosquitto) -> Iterator[TcpProxy]:
    proxy = TcpProxy(broker.port)
    yield proxy
    proxy.close()


@pytest.fixture
def hub(broker: Mosquitto, tmp_path: Path) -> Iterator[HubSide]:
    hub = HubSide(broker.url, tmp_path / "hub")
    hub.start()
    await_true(lambda: hub.link.connected)
    yield hub
    hub.stop()


def begun(device: DeviceSide) -> DeviceSide:
    device.start()
    await_true(lambda: device.link.connected)
    return device


def some_bytes(size: int) -> bytes:
    return random.Random(1).randbytes(size)


def test_an_upload_goes_no_faster_than_its_limit(
    proxy: TcpProxy, hub: HubSide, tmp_path: Path
) -> None:
    limits = Limits(up_bits_per_s=BITS_PER_S)
    device = begun(DeviceSide(proxy.url, tmp_path / "a", limits=limits))
    before, began_at = proxy.up, time.monotonic()
    task = device.upload(some_bytes(SIZE))
    fastest = 0.0
    while not task.uploaded:
        sent, took_s = proxy.up - before, time.monotonic() - began_at
        assert sent <= 1.02 * took_s * BITS_PER_S / 8 + 500  # questions don't wait
        fastest = max(fastest, sent / took_s)
        time.sleep(0.005)
    assert fastest > 0
    device.stop()


def test_a_download_goes_no_faster_than_its_limit_and_hears_no_broadcast(
    proxy: TcpProxy, hub: HubSide, tmp_path: Path
) -> None:
    limits = Limits(down_bits_per_s=BITS_PER_S)
    device = begun(DeviceSide(proxy.url, tmp_path / "a", limits=limits))
    sha256 = hub.blobs.put(some_bytes(SIZE))
    path = hub.blobs.path(sha256)
    assert path is not None
    hub.call(lambda: hub.broadcast.publish(hub.topics.slice_chunk("j", "lora-0"), sha256, path))
    before, began_at = proxy.down, time.monotonic()
    device.call(lambda: device.collector.want(sha256, SIZE, 0.0))
    while device.gathered != [sha256]:
        came, took_s = proxy.down - before, time.monotonic() - began_at
        assert came <= 1.02 * took_s * BITS_PER_S / 8 + 4000  # and answers to questions
        assert took_s < 60
        time.sleep(0.005)
    assert device.received.count("repair_chunk") == SIZE // CHUNK_BYTES
    assert "slice_chunk" not in device.received
    device.stop()


CAP = 2_000_000


def started_and_stopped(proxy: TcpProxy, folder: Path, data: bytes, now: float) -> DeviceSide:
    """Let a device send what its cap allows; return it when it is done, or done for the day."""
    limits = Limits(data_cap_bytes=CAP)
    device = begun(DeviceSide(proxy.url, folder, limits=limits, clock=lambda: now))
    task = device.upload(data)
    await_true(lambda: task.uploaded or device.told != [])
    device.stop()
    return device


def test_a_days_bytes_end_at_the_cap_and_the_next_day_goes_on(
    proxy: TcpProxy, hub: HubSide, tmp_path: Path
) -> None:
    """5 MB at 2 MB a day take three days; on each one the device is started twice."""
    data = some_bytes(5_000_000)
    days: list[int] = []
    for day in range(3):
        before = proxy.up + proxy.down
        for _start in range(2):
            device = started_and_stopped(proxy, tmp_path / "a", data, NOON + day * 86_400)
            if day < 2:
                assert [one[:2] for one in device.told] == [
                    ("event", "data-cap"),
                    ("state", "ready"),
                ]
                assert "of the day's 2 MB" in device.told[0][2]
        days.append(proxy.up + proxy.down - before)
    assert len(hub.blobs.all()) == 1
    assert all(0.98 * CAP - CHUNK_BYTES < day <= 1.02 * CAP for day in days[:2]), days
    assert 5_000_000 < sum(days) < 5_100_000  # and nothing went twice
