"""Bytes, documents and numbers that no honest device sends: the hub stays up and goes on."""

import hashlib
import json
import random
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.cli.client import HubClient
from tests.scripted_device import ScriptedDevice
from tests.system.honest_fleet import Fleet, honest_update
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from wire.messages import Accepted, DeviceInfo, Offer, Refused, RungPlan
from wire.transfer import encode_chunk

pytestmark = pytest.mark.broker

OPERATIONS = ("hello", "take", "evaluated", "result", "blob-init", "blob-fin", "blob-get", "none")


def publish_plan(device: ScriptedDevice, job: str, **changes: Any) -> None:
    """Publish an info whose plan for the job has some other values."""
    plan: dict[str, Any] = {
        "role": "lora",
        "rung": "resident",
        "rank": 2,
        "batch": 1,
        "seq_len": 32,
        "predicted_peak_bytes": 10**8,
        "fits": True,
    }
    info = DeviceInfo(
        session=device.session,
        ts=time.time(),
        agent_version="test",
        wire_version=1,
        machine="test",
        cores=1,
        memory_limit_bytes=changes.pop("memory_limit_bytes", 10**9),
        memory_reason="test",
        codecs=changes.pop("codecs", ["raw", "bf16", "int8"]),
        plans={job: RungPlan(**(plan | changes))},
    )
    device.link.publish(device.topics.device_info(device.id), encode_any(info), 1, retain=True)


def encode_any(message: Any) -> bytes:
    """Encode without the sender's own size limit."""
    return msgspec.json.encode(message)


def send(device: ScriptedDevice, topic: str, payload: bytes, qos: int = 1) -> None:
    poll("room to send", lambda: device.link.publish(topic, payload, qos))


def await_offer(hub: HubProcess, device: ScriptedDevice, round_: int) -> Offer:
    """Return the next offer; fail at once when the hub has ended."""

    def found() -> Offer | None:
        assert hub.running, hub.log[-2000:]
        device.pump(0.02)
        for offer in device.offers:
            if offer.round == round_:
                device.offers.remove(offer)
                return offer
        return None

    offer: Offer = poll(f"an offer for {device.id}", found, 10.0)
    return offer


def test_garbage_on_every_topic_changes_nothing(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    fleet.join("j", a=("lora", 2), b=("prompt", 0))
    (enemy,) = fleet.join("j", enemy=("lora", 2))
    hub.submit(job_text("j", base, cohort={"min": 3, "max": 9}))
    offer = enemy.await_offer(1)
    enemy.take(offer)
    rng = random.Random(1)
    t = enemy.topics
    topics = [
        t.device_state("enemy"), t.device_info("enemy"), t.telemetry("enemy"),
        t.event("enemy", "odd"), t.upload_chunk("enemy"),
        *(t.request("enemy", name) for name in OPERATIONS),
        f"{t.watched}/d/enemy/up/req/take/more", f"{t.watched}/d/-bad/up/req/take",
        f"{t.watched}/nothing",
    ]  # fmt: skip
    valid = {"id": "1", "session": enemy.session, "task": offer.task}
    payloads = [
        b"", b"\x00", b"null", b"[]", b'"text"', b"{", b"1e999", b"\xff" * 10,
        rng.randbytes(300), b"[" * 60_000, b"[" * 50_000 + b"]" * 50_000,
        b'{"id":' + b"9" * 100_000 + b"}",
        json.dumps({"id": "x" * 120_000, "session": enemy.session}).encode(),
        json.dumps({"session": enemy.session, "id": 5, "task": [], "accept": "yes"}).encode(),
        json.dumps(valid | {"sha256": "../../../etc/passwd", "size_bytes": 5}).encode(),
        json.dumps(valid | {"sha256": "0" * 64, "size_bytes": -1}).encode(),
        json.dumps(valid | {"sha256": "0" * 64, "size_bytes": 10**30}).encode(),
        json.dumps(valid | {"sha256": "0" * 64, "missing": [[0, 10**15]]}).encode(),
        json.dumps(valid | {"sha256": "0" * 64, "missing": [[-5, 3]]}).encode(),
        b"a" * 131_000,
        encode_chunk("0" * 64, 0, b"unasked"),
        encode_chunk("0" * 64, 7, b"unasked")[:-3],
    ]  # fmt: skip
    for topic in topics:
        for payload in payloads:
            send(enemy, topic, payload)
    # The last of them has been read once a question behind it is answered.
    assert enemy.greet()
    assert hub.running, hub.log[-3000:]
    lines = hub.log.splitlines()
    assert any("dropped" in line for line in lines)
    assert max(map(len, lines)) < 2000
    enemy.describe("j")
    fleet.work(enemy, offer)
    detail = fleet.finish(hub, "j")
    assert detail.summary.phase == "done"
    assert hub.accepted("j") == [(r, d) for r in (1, 2) for d in ("a", "b", "enemy")]


def test_a_flood_of_garbage_is_mentioned_and_not_repeated(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    enemy = fleet.add("enemy")
    before = len(hub.log.splitlines())
    for number in range(2000):
        send(enemy, enemy.topics.request("enemy", "take"), b"{%d" % number)
        send(enemy, enemy.topics.upload_chunk("enemy"), b"%d" % number)
    enemy.greet()
    said = len(hub.log.splitlines()) - before
    assert 1 <= said < 200


#: What a device may say of itself; the keys name the devices.
PLANS: dict[str, dict[str, Any]] = {
    "peak": {"predicted_peak_bytes": 10**400},
    "limit": {"memory_limit_bytes": 10**400},
    "missing": {"missing_bytes": 10**400, "fits": False},
    "talks": {"fits": False, "reason": "x" * 20_000},
    "rung": {"rung": "x" * 100_000},
    "negative": {"rank": -5},
    "zero": {"rank": 0, "batch": 0, "seq_len": -1},
    "large": {"batch": 10**300, "seq_len": 10**300},
    "mute": {"codecs": []},
}


@pytest.mark.parametrize("enemies", [list(PLANS), ["peak"], ["rung"]], ids="-".join)
def test_plans_of_absurd_numbers_stop_nobody(
    hub: HubProcess, fleet: Fleet, base: Path, enemies: list[str]
) -> None:
    honest = fleet.join("j", a=("lora", 2), b=("prompt", 0))
    for name in enemies:
        publish_plan(fleet.add(name), "j", **PLANS[name])
        fleet.all[name].greet()
    hub.submit(job_text("j", base, rounds=1, deadline_s=4, cohort={"min": 2, "max": 20}))
    for device in honest:
        fleet.work(device, await_offer(hub, device, 1))
    hub.await_event("j", "Published", round=1)
    with HubClient(hub.url) as client:
        assert {one.device for one in client.devices()} == {"a", "b", *enemies}
        for name in enemies:
            assert client.device(name).summary.device == name


def test_a_long_reason_not_to_take_part_stops_nobody(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    """It is part of why the round waits, which is announced in a document of at most 8 KiB."""
    (a,) = fleet.join("j", a=("lora", 2))
    publish_plan(fleet.add("talks"), "j", **PLANS["talks"])
    fleet.all["talks"].greet()
    hub.submit(job_text("j", base, rounds=1, deadline_s=4, cohort={"min": 2, "max": 20}))
    hub.await_event("j", "Waiting")
    fleet.join("j", b=("lora", 2))
    fleet.work(a, await_offer(hub, a, 1))
    fleet.work(fleet.all["b"], await_offer(hub, fleet.all["b"], 1))
    hub.await_event("j", "Published", round=1)


#: What a device may say of its training; the keys name the devices.
TRAINED: dict[str, dict[str, Any]] = {
    "instant": {"seconds_per_step": 0.0},
    "before": {"seconds_per_step": -1e308},
    "never": {"seconds_per_step": 1e308, "load_s": 1e308},
    "early": {"load_s": -1e308},
    "much": {"tokens": 10**400},
    "less": {"tokens": -5},
    "worse": {"loss_first": 1e308, "loss_last": -1e308},
}


def test_absurd_measurements_stop_nobody(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    honest = fleet.join("j", a=("lora", 2), b=("lora", 2), c=("prompt", 0))
    enemies = fleet.join("j", **dict.fromkeys(TRAINED, ("lora", 2)))
    settings = {"deadline_s": "auto", "cohort": {"min": 2, "max": 20}, "seed": None}
    hub.submit(job_text("j", base, **settings))
    for device in honest:
        fleet.work(device, await_offer(hub, device, 1))
    for enemy in enemies:
        offer = await_offer(hub, enemy, 1)
        enemy.take(offer)
        blob = honest_update(enemy, offer)
        enemy.upload(offer, blob)
        measured = {
            "steps": 1, "tokens": 100, "loss_first": 2.0, "loss_last": 1.9,
            "seconds_per_step": 0.1,
        }  # fmt: skip
        document = {
            "id": "last",
            "session": enemy.session,
            "task": offer.task,
            "job": "j",
            "round": 1,
            "status": "done",
            "sha256": hashlib.sha256(blob).hexdigest(),
            "train": measured | TRAINED[enemy.id],
            "download_s": 1e308,
            "upload_s": -1e-320,
            "peak_bytes": 10**400,
            "bytes_up": -(10**400),
        }
        send(enemy, enemy.topics.request(enemy.id, "result"), json.dumps(document).encode())
        answer = enemy._await(lambda e: getattr(e, "re", None) == "last", 10.0)
        assert isinstance(answer, Accepted | Refused), enemy.id
    hub.await_event("j", "Published", round=1)
    # The schedule of round 2 reads the measurements.
    for device in honest:
        assert await_offer(hub, device, 2).deadline_s > 25
    with HubClient(hub.url) as client:
        assert client.device("much").usage is not None
        assert client.job("j").summary.round == 2


def test_a_plan_can_not_raise_what_an_update_weighs(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    """A plan's batch is a device's own word, so it can't raise what its update weighs."""
    fleet.join("j", a=("lora", 2))
    enemy = fleet.add("enemy")
    publish_plan(enemy, "j", batch=10**9, seq_len=10**9)
    enemy.greet()
    hub.submit(job_text("j", base, cohort={"min": 2, "max": 9}))
    offer = await_offer(hub, enemy, 1)
    # The job file allows a batch of 1 and 32 tokens.
    assert offer.work is not None
    assert (offer.work.batch, offer.work.seq_len) == (1, 32)
