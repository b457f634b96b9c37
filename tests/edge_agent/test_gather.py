"""What a device gathers, keeps and lets go of, with real blobs on disk."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.collect import Collector
from edge_agent.gather import Adapters
from edge_agent.protocol import Following
from edge_agent.slices import SliceChoice
from wire.blobs import BlobStore
from wire.manifest import AdapterManifest, AdapterPart, BlobName, Difference, TargetShape
from wire.messages import AdapterRef, BlobRef
from wire.transfer import CHUNK_BYTES, encode_chunk


class Jobs:
    """A job, and what was announced of it last."""

    def __init__(self) -> None:
        self.active = ["j"]
        self.newest: list[AdapterRef] = []

    def adapters(self) -> list[AdapterRef]:
        return self.newest


class Publisher:
    """A hub's side: one version after the other, and the blobs that were broadcast of each."""

    def __init__(self, folder: Path) -> None:
        self.store = BlobStore(folder)
        self.versions: list[AdapterRef] = []
        self._parts: list[AdapterPart] = []
        self._made = 0

    def roll_back(self) -> None:
        """The next version follows the one before the newest."""
        self.versions.pop()
        self._parts.pop()

    def publish(self) -> list[str]:
        """Store the next version; return what is broadcast: the manifest and a part."""
        round_ = self._made
        self._made += 1
        before_part = self._parts[-1] if self._parts else None
        whole = self.store.put(b"whole %d" % round_ * 1000)
        difference = None
        if before_part is not None:
            data = b"difference %d" % round_
            difference = Difference(
                to=before_part.sha256,
                sha256=self.store.put(data),
                size_bytes=len(data),
                codec="entropy",
            )
        part = AdapterPart(
            name="lora", sha256=whole, size_bytes=7000, codec="bf16", difference=difference
        )
        self._parts.append(part)
        before = self.versions[-1] if self.versions else None
        manifest = AdapterManifest(
            job="j",
            round=round_,
            base="a" * 64,
            rank=1,
            tokens=0,
            shapes={"q": TargetShape(inputs=2, outputs=2)},
            hidden_size=2,
            parts=[part],
            previous=before and BlobName(sha256=before.sha256, size_bytes=before.size_bytes),
        )
        payload = manifest.encode()
        self.versions.append(AdapterRef(sha256=self.store.put(payload), size_bytes=len(payload)))
        return [self.versions[-1].sha256, difference.sha256 if difference else whole]


class Device:
    """A device's side."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.jobs = Jobs()
        self.task: AdapterRef | None = None  # with which the running task begins
        self.blobs = BlobStore(folder)
        self.collector = Collector(self.blobs, lambda sha256, _missing: self.asked.append(sha256))
        self.slices = SliceChoice(lambda _job: self.serves, lambda: self.bytes_per_s, lambda: None)
        self.bytes_per_s: float | None = None
        self.serves = False
        self.adapters = Adapters(
            self.blobs,
            self.collector,
            self.jobs,
            self.slices,  # type: ignore[arg-type]
        )

    def hear(self, hub: Publisher, sha256: str) -> None:
        """Take a blob's only chunk as it is broadcast."""
        path = hub.store.path(sha256)
        assert path is not None
        data = path.read_bytes()
        assert len(data) <= CHUNK_BYTES
        if self.collector.on_chunk(encode_chunk(sha256, 0, data), 0.0) is not None:
            self.adapters.refresh(self.task, set())

    def learn(self, hub: Publisher) -> None:
        """Hear of the newest version."""
        self.jobs.newest = hub.versions[-1:]
        self.adapters.refresh(self.task, set())


@pytest.fixture
def hub(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "hub")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device")


def follow(hub: Publisher, device: Device) -> None:
    """One round, as it goes when all is well: announced, then broadcast."""
    sent = hub.publish()
    device.learn(hub)
    for sha256 in sent:
        device.hear(hub, sha256)


def make(hub: Publisher, device: Device) -> Any:
    """Do what the worker does with a task: put the part that differences come to."""
    found = device.adapters.files(hub.versions[-1])
    assert found is not None
    for one in found.following:
        path = hub.store.path(one.part)
        assert path is not None
        assert device.blobs.put(path.read_bytes()) == one.part
    return found


def test_further_blobs_of_a_task_are_gathered_and_then_let_go(
    hub: Publisher, device: Device
) -> None:
    follow(hub, device)
    others = [BlobRef(sha256=hub.store.put(data), size_bytes=5) for data in (b"first", b"other")]
    assert not device.adapters.has(others)
    device.adapters.refresh(None, set(), others)
    for one in others:
        path = hub.store.path(one.sha256)
        assert path is not None
        device.collector.on_chunk(encode_chunk(one.sha256, 0, path.read_bytes()), 0.0)
    device.adapters.refresh(None, set(), others)
    assert device.adapters.has(others)
    assert device.adapters.has([])
    device.adapters.refresh(None, set())
    assert not any(device.blobs.path(one.sha256) for one in others)


def test_the_first_version_comes_whole(hub: Publisher, device: Device) -> None:
    follow(hub, device)
    found = make(hub, device)
    assert found.following == []
    (path,) = found.files.values()
    assert Path(path).read_bytes() == b"whole 0" * 1000


def test_the_next_one_is_made_of_the_one_before(hub: Publisher, device: Device) -> None:
    follow(hub, device)
    first = next(iter(make(hub, device).files.values()))
    follow(hub, device)
    found = device.adapters.files(hub.versions[-1])
    assert found is not None
    assert found.files == {}
    (following,) = found.following
    assert following.held == first
    assert [Path(path).read_bytes() for path in following.differences] == [b"difference 1"]
    assert device.asked == []


def test_a_device_without_a_task_keeps_the_whole_and_all_differences_since(
    hub: Publisher, device: Device
) -> None:
    follow(hub, device)
    make(hub, device)
    for _ in range(4):
        follow(hub, device)
    found = device.adapters.files(hub.versions[-1])
    assert found is not None
    (following,) = found.following
    read = [Path(path).read_bytes() for path in following.differences]
    assert read == [b"difference %d" % n for n in (1, 2, 3, 4)]


def test_after_a_roll_back_the_next_one_is_made_of_the_last_that_was_announced(
    hub: Publisher, device: Device
) -> None:
    follow(hub, device)
    first = next(iter(make(hub, device).files.values()))
    sent = hub.publish()  # a candidate: offered for an evaluation, never announced
    device.task = hub.versions[-1]
    device.adapters.files(device.task)
    for sha256 in sent:
        device.hear(hub, sha256)
    found = make(hub, device)
    assert [one.held for one in found.following] == [first]
    rejected = found.following[0].part
    device.task = None
    hub.roll_back()
    device.learn(hub)
    follow(hub, device)
    found = make(hub, device)
    (following,) = found.following
    assert following.held == first
    assert [Path(path).read_bytes() for path in following.differences] == [b"difference 2"]
    assert device.asked == []
    device.adapters.refresh(None, set())
    assert device.blobs.path(rejected) is None, "nobody needs it any more"


def test_what_led_to_a_version_goes_once_it_is_made_and_the_next_is_there(
    hub: Publisher, device: Device
) -> None:
    for _ in range(6):
        follow(hub, device)
        make(hub, device)
    # The whole before, the last difference, the whole now; and all manifests, which are small.
    others = set(device.blobs.all()) - {one.sha256 for one in hub.versions}
    assert len(others) <= 3


def test_a_version_that_was_missed_is_asked_for_from_its_manifest_on(
    hub: Publisher, device: Device
) -> None:
    follow(hub, device)
    make(hub, device)
    hub.publish()  # while the device was away
    sent = hub.publish()
    device.learn(hub)
    for sha256 in sent:
        device.hear(hub, sha256)
    device.collector.tick(1e9)
    assert device.asked == [hub.versions[1].sha256]
    device.hear(hub, hub.versions[1].sha256)
    device.collector.tick(2e9)
    missed = (
        AdapterManifest.decode(Path(str(hub.store.path(hub.versions[1].sha256))).read_bytes())
        .parts[0]
        .difference
    )
    assert missed is not None
    assert device.asked[1:] == [missed.sha256]
    device.hear(hub, missed.sha256)
    found = device.adapters.files(hub.versions[-1])
    assert found is not None
    assert len(found.following[0].differences) == 2


def test_a_newcomer_takes_the_whole_without_walking_back(hub: Publisher, device: Device) -> None:
    for _ in range(5):
        sent = hub.publish()
    device.learn(hub)
    device.hear(hub, sent[0])
    device.collector.tick(1e9)
    whole = device.jobs.newest[0]
    manifest = AdapterManifest.decode(Path(str(hub.store.path(whole.sha256))).read_bytes())
    assert device.asked == [manifest.parts[0].sha256]


def test_a_restarted_device_goes_on_from_what_it_has(hub: Publisher, tmp_path: Path) -> None:
    before = Device(tmp_path / "same")
    follow(hub, before)
    make(hub, before)
    after = Device(tmp_path / "same")
    follow(hub, after)
    found = after.adapters.files(hub.versions[-1])
    assert found is not None
    assert len(found.following) == 1


def test_a_version_that_differences_did_not_come_to_is_gathered_whole(
    hub: Publisher, device: Device
) -> None:
    follow(hub, device)
    make(hub, device)
    follow(hub, device)
    device.adapters.distrust(hub.versions[-1])
    assert device.adapters.files(hub.versions[-1]) is None
    device.collector.tick(1e9)
    assert len(device.asked) == 1
    device.hear(hub, device.asked[0])
    found = device.adapters.files(hub.versions[-1])
    assert found is not None
    assert found.following == []


def test_what_crosses_to_the_worker_is_paths_alone() -> None:
    assert msgspec.json.decode(
        msgspec.json.encode(Following(part="p", held="h", differences=["d"])), type=Following
    ) == Following(part="p", held="h", differences=["d"])
