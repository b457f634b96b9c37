"""Something breaks at a byte in the middle of an upload or of a broadcast, drawn from a seed.

Each time the job must end as if nothing had happened: each update accepted once, and the very
adapter that an undisturbed job ends with. `python -m bench.faults` runs these with more seeds.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import Mosquitto
from tests.scripted_device import ScriptedDevice
from tests.system.fault_stage import RAW_BYTES, SHAPE, FaultSite, FaultStage, some_byte
from tests.system.faulty_relay import Way
from tests.system.honest_fleet import seed_of
from tests.system.hub_process import FLEET, HubProcess
from tests.system.small_base import write_base
from tests.system.spoilers import SPOILERS
from wire.messages import (
    Accepted,
    BlobFin,
    BlobInit,
    DeviceState,
    Hello,
    Message,
    Offer,
    Refused,
    Result,
    Take,
    encode,
)
from wire.transfer import CHUNK_BYTES, WINDOW, encode_chunk

pytestmark = [pytest.mark.broker, pytest.mark.faults]

Stages = Callable[[str], FaultStage]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultSite]:
    folder = tmp_path_factory.mktemp("faults")
    base = write_base(folder / "base", **SHAPE)
    broker = Mosquitto(folder)
    broker.start()
    hub = HubProcess(folder, broker.url)
    try:
        hub.start()
        yield FaultSite(folder, broker, hub, base)
    finally:
        hub.kill9()
        broker.kill()


@pytest.fixture(scope="module")
def undisturbed(site: FaultSite) -> dict[str, bytes]:
    """The adapter of a job to which nothing happens."""
    stage = FaultStage(site, "undisturbed")
    try:
        stage.submit()
        stage.finish()
        adapter = stage.adapter()
    finally:
        stage.close()
    assert adapter
    return adapter


@pytest.fixture
def stages(site: FaultSite, undisturbed: dict[str, bytes]) -> Iterator[Stages]:
    """Set a stage for a job; it is cleared in the end."""
    with ExitStack() as stack:

        def begin(job: str) -> FaultStage:
            stage = FaultStage(site, job)
            stack.callback(stage.close)
            return stage

        yield begin


@pytest.mark.parametrize("way", ["up", "down"], ids=["upload", "broadcast"])
@pytest.mark.parametrize("victim", ["broker", "hub", "device"])
def test_killed_in_the_middle(
    stages: Stages, undisturbed: dict[str, bytes], victim: str, way: Way, fault_seed: int
) -> None:
    stage = stages(f"{victim}-{way}-{fault_seed}")
    stage.relay.strike(way, some_byte(fault_seed), getattr(stage, f"{victim}_killed"))
    struck = stage.relay.struck
    stage.submit()
    stage.run(struck.is_set)
    stage.finish()
    assert stage.adapter() == undisturbed
    away = [line for line in stage.log.splitlines() if "is away" in line]
    assert len(away) <= (1 if victim == "broker" else 0)


@pytest.mark.parametrize("fault", list(SPOILERS))
def test_spoiled_chunks_on_both_ways(
    stages: Stages, undisturbed: dict[str, bytes], fault: str, fault_seed: int
) -> None:
    stage = stages(f"{fault}-{fault_seed}")
    chance = random.Random(fault_seed)
    stage.relay.spoilers = {"up": SPOILERS[fault](chance), "down": SPOILERS[fault](chance)}
    stage.relay.hold = 5 if fault == "reordered" else 1
    stage.submit()
    stage.finish()
    assert stage.adapter() == undisturbed
    assert min(stage.relay.spoiled.values()) > 0, "some were spoiled, on both ways"
    said = [line for line in stage.log.splitlines() if "dropped a chunk" in line]
    assert len(said) <= 3
    if fault in ("truncated", "corrupted"):  # perhaps a moment ago, in the stage before
        assert "dropped a chunk of a" in stage.hub.log


def test_another_device_with_this_ones_id_changes_nothing(
    stages: Stages, undisturbed: dict[str, bytes], site: FaultSite, fault_seed: int
) -> None:
    """In the middle of an upload a stranger speaks on the device's topics, and forges a chunk."""
    stage = stages(f"stolen-{fault_seed}")
    chance = random.Random(fault_seed)
    device = stage.fleet.all["a"]
    task = f"{stage.job}.1.a"
    stranger = ScriptedDevice(site.broker.url, FLEET, "stranger")
    topics, about = stranger.topics, {"session": stranger.session, "task": task}
    blob = b""

    def honest(offer: Offer, **_: object) -> bytes:
        nonlocal blob
        blob = ScriptedDevice.make_update(device, offer, seed=seed_of(device, offer))
        return blob

    device.make_update = honest  # type: ignore[method-assign]

    def speak() -> None:
        sha256 = hashlib.sha256(blob).hexdigest()
        messages: list[Message] = [
            Take(id="1", accept=False, reason="stolen", **about),
            Result(id="2", job=stage.job, round=1, status="failed", reason="stolen", **about),
            BlobInit(id="3", sha256="0" * 64, size_bytes=1, **about),
            BlobFin(id="4", sha256=sha256, **about),
            Hello(id="5", session=stranger.session, agent_version="x", wire_version=1),
        ]
        for message in chance.sample(messages, len(messages)):
            stranger.link.publish(topics.request("a", str(message.NAME)), encode(message))
        lost = DeviceState(state="lost", session=stranger.session, ts=time.time())
        stranger.link.publish(topics.device_state("a"), encode(lost))
        # Beyond the first window: it comes before the true one.
        forged = encode_chunk(sha256, chance.randrange(WINDOW, 17), chance.randbytes(CHUNK_BYTES))
        stranger.link.publish(topics.upload_chunk("a"), forged)

    stage.relay.strike("up", chance.randrange(CHUNK_BYTES), speak)
    stage.submit()
    try:
        stage.run(stage.relay.struck.is_set)
        stage.finish()
    finally:
        stranger.close()
    assert stage.adapter() == undisturbed
    assert not stage.hub.events(stage.job, "Declined", "TaskFailed", "DeviceLost")


def test_updates_that_claim_more_than_is_allowed_cost_no_memory(
    stages: Stages, undisturbed: dict[str, bytes], site: FaultSite, fault_seed: int
) -> None:
    stage = stages(f"bomb-{fault_seed}")
    chance = random.Random(fault_seed)
    bomber = stage.join("c", site.broker.url)
    stage.submit()
    offer = bomber.await_offer(1)
    bomber.take(offer)
    good = bomber.make_update(offer)
    lengths = 4 + 1 + len(offer.codec) + 4  # magic and version, the codec's name, a check
    assert good[:lengths].endswith(good[lengths - 4 : lengths])
    about = {"session": bomber.session, "task": offer.task}
    for size in (RAW_BYTES * 10, 2**36, 2**53, 10**30):
        init = BlobInit(id=bomber.number(), sha256=f"{chance.getrandbits(256):064x}",
                        size_bytes=size, **about)  # fmt: skip
        answer = bomber.ask(init)
        assert isinstance(answer, Refused), size
    bombs = [
        good[:lengths] + b"\xff\xff\xff\xff\x7f" + good[lengths + 3 :],  # 2^35 - 1 bytes
        good[:4] + b"\x07entropy" + good[5 + len(offer.codec) :],
        good + bytes(chance.randrange(1, 200_000)),
    ]
    for bomb in chance.sample(bombs, len(bombs)):
        answer = bomber.upload(offer, bomb)
        assert isinstance(answer, Accepted)  # as a blob; what it holds is looked at next
        assert isinstance(bomber.result(offer, bomb), Refused)
    bomber.close()
    del stage.fleet.all["c"]
    stage.finish()
    assert stage.adapter() == undisturbed
