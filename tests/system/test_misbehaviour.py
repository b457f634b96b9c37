"""Devices that lie, break, repeat themselves or fall silent: the round closes without them."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hub.api.control import Member
from hub.cli.client import HubClient
from tests.scripted_device import ScriptedDevice
from tests.system.honest_fleet import Fleet, honest_update
from tests.system.hub_process import HubProcess
from tests.system.small_base import job_text
from wire.codecs import by_name
from wire.messages import Accepted, BlobGet, BlobInfo, BlobInit, Message, Offer, Refused
from wire.tensors import pack

pytestmark = pytest.mark.broker

Misdeed = Callable[[ScriptedDevice, Offer], Message | None]
HONEST = {"a": ("lora", 2), "b": ("lora", 4), "c": ("prompt", 0)}


def filled(value: float) -> Misdeed:
    """Deliver an update whose last entry, four bytes as the codec is raw, is an odd value."""

    def misdeed(device: ScriptedDevice, offer: Offer) -> Message:
        assert offer.codec == "raw"
        blob = honest_update(device, offer)
        return send(device, offer, blob[:-4] + np.float32(value).tobytes())

    return misdeed


def send(device: ScriptedDevice, offer: Offer, blob: bytes) -> Message:
    answer = device.upload(offer, blob)
    return device.result(offer, blob) if isinstance(answer, Accepted) else answer


def other_rank(device: ScriptedDevice, offer: Offer) -> Message:
    shapes = device.manifest(offer).expected_lora(offer.rank - 1)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return send(device, offer, pack(tensors, by_name(offer.codec), 0))


def other_base(device: ScriptedDevice, offer: Offer) -> Message:
    blob = honest_update(device, offer)
    assert isinstance(device.upload(offer, blob), Accepted)
    return device.result(offer, blob, base="0123456789abcdef")


def other_targets(device: ScriptedDevice, offer: Offer) -> Message:
    shapes = device.manifest(offer).expected_lora(offer.rank)
    tensors = {f"other.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return send(device, offer, pack(tensors, by_name(offer.codec), 0))


def garbage(device: ScriptedDevice, offer: Offer) -> Message:
    return send(device, offer, np.random.default_rng(3).bytes(1000))


def out_of_proportion(device: ScriptedDevice, offer: Offer) -> Message:
    return send(device, offer, device.make_update(offer, scale=100.0))


def too_large(device: ScriptedDevice, offer: Offer) -> Message:
    init = BlobInit(
        id=device.number(),
        session=device.session,
        task=offer.task,
        sha256="0" * 64,
        size_bytes=10**8,
    )
    answer = device.ask(init)
    assert isinstance(answer, Refused)
    device.result(offer, None, status="failed")
    return answer


def without_blob(device: ScriptedDevice, offer: Offer) -> Message:
    return device.result(offer, b"never uploaded")


def declined(device: ScriptedDevice, offer: Offer) -> Message | None:
    device.take(offer, accept=False)
    return None


def failed(device: ScriptedDevice, offer: Offer) -> Message | None:
    device.result(offer, None, status="failed")
    return None


#: What each device does with its task, and what its record and the refusal must say.
MISDEEDS: dict[str, tuple[Misdeed, str, str]] = {
    "nan": (filled(float("nan")), "failed", "finite"),
    "infinite": (filled(float("inf")), "failed", "finite"),
    "rank": (other_rank, "failed", ""),
    "based": (other_base, "failed", "was trained on base 0123456789abcdef"),
    "aimed": (other_targets, "failed", "names or shapes differ"),
    "garbage": (garbage, "failed", "malformed"),
    "loud": (out_of_proportion, "failed", "moved by"),
    "large": (too_large, "failed", ""),
    "blank": (without_blob, "failed", "upload it first"),
    "declined": (declined, "declined", "scripted"),
    "failed": (failed, "failed", "scripted"),
}


def adapter_files(hub: HubProcess, job: str) -> dict[str, bytes]:
    target = hub.folder / f"{job}.zip"
    with HubClient(hub.url) as client:
        client.adapter(job, target)
    archive = zipfile.ZipFile(target)
    return {name: archive.read(name) for name in archive.namelist() if "safetensors" in name}


def test_misdeeds_are_refused_and_leave_no_trace_in_the_adapter(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    fleet.join("spoiled", **HONEST)
    bad = fleet.join("spoiled", **dict.fromkeys(MISDEEDS, ("lora", 3)))
    silent, gone = fleet.join("spoiled", silent=("lora", 2), gone=("lora", 2))
    hub.submit(
        job_text("spoiled", base, codec="raw", rounds=1, deadline_s=8, cohort={"min": 3, "max": 20})
    )
    for device in bad:
        offer = device.await_offer(1)
        misdeed, _, reason = MISDEEDS[device.id]
        if device.id != "declined":
            device.take(offer)
        answer = misdeed(device, offer)
        if answer is not None:
            assert isinstance(answer, Refused), device.id
            assert reason in answer.reason
    gone.take(gone.await_offer(1))
    fleet.leave(gone)
    silent.await_offer(1)
    for name in HONEST:
        fleet.work(fleet.all[name], fleet.all[name].await_offer(1))
    hub.await_event("spoiled", "Published", round=1)

    members: dict[str, Member] = {one.device: one for one in hub.job("spoiled").rounds[0].members}
    assert hub.accepted("spoiled") == [(1, name) for name in HONEST]
    for name, (_, state, reason) in MISDEEDS.items():
        assert members[name].state == state, name
        assert reason in str(members[name].problem), name
        assert members[name].problem
    assert members["silent"].state == members["gone"].state == "missed"
    assert all(members[name].state == "delivered" for name in HONEST)

    fleet.leave(*bad, silent)
    assert fleet.finish(hub, "spoiled").summary.phase == "done"
    for name in HONEST:
        fleet.all[name].describe("clean")
    hub.submit(job_text("clean", base, codec="raw", rounds=1, cohort={"min": 3, "max": 20}))
    assert fleet.finish(hub, "clean").summary.phase == "done"
    spoiled, clean = adapter_files(hub, "spoiled"), adapter_files(hub, "clean")
    assert len(clean) == 2
    assert spoiled == clean


def test_a_device_that_repeats_itself_counts_once(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    echo, b, c = fleet.join("j", echo=("lora", 2), b=("lora", 4), c=("infer", 0))
    hub.submit(job_text("j", base, cohort={"min": 2, "max": 9}))
    offer = echo.await_offer(1)
    for _ in range(20):
        echo.take(offer)
        echo.evaluated(offer)
    blob = honest_update(echo, offer)
    sha256 = hashlib.sha256(blob).hexdigest()
    for _ in range(5):
        assert isinstance(echo.upload(offer, blob), Accepted)
        echo.send_chunk(sha256, 0, blob)
    for _ in range(20):
        assert isinstance(echo.result(offer, blob, request="same"), Accepted)
        assert isinstance(echo.result(offer, blob), Accepted)
    fleet.served.add(offer.task)
    for device in (b, c):
        fleet.work(device, device.await_offer(1))
    hub.await_event("j", "Published", round=1)
    for _ in range(20):
        assert isinstance(echo.result(offer, blob), Accepted)
        echo.result(offer, None, status="failed")
    assert fleet.finish(hub, "j").summary.phase == "done"
    assert hub.accepted("j") == [(r, d) for r in (1, 2) for d in ("b", "echo")]
    # The record doesn't grow with what changes nothing.
    kinds = [(one.kind, one.data.get("round"), one.data.get("device")) for one in hub.events("j")]
    for kind in ("Taken", "Evaluated", "TaskFailed"):
        assert kinds.count((kind, 1, "echo")) <= 1, kind


def test_an_update_that_comes_late_enters_the_next_round(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    a, slow = fleet.join("j", a=("lora", 2), slow=("lora", 2))
    hub.submit(job_text("j", base, deadline_s=3, cohort={"min": 1, "max": 9}))
    late = slow.await_offer(1)
    slow.take(late)
    blob = honest_update(slow, late)
    fleet.work(a, a.await_offer(1))
    hub.await_event("j", "Published", round=1)
    offer = a.await_offer(2)
    slow.upload(late, blob)
    assert isinstance(slow.result(late, blob), Accepted)
    fleet.leave(slow)
    fleet.work(a, offer)
    assert fleet.finish(hub, "j").summary.phase == "done"
    first = hub.job("j").rounds[0]
    assert {one.device: one.state for one in first.members} == {"a": "delivered", "slow": "late"}
    assert hub.accepted("j") == [(1, "a"), (1, "slow"), (2, "a")]
    combined = hub.events("j", "Combined")
    assert [one.data["round"] for one in combined] == [1, 2]


def test_an_update_that_names_the_adapter_itself_does_not_delete_it(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    """The prompt of the start is on disk, and a well-formed update: the thief sends its name."""
    a, thief = fleet.join("j", a=("lora", 2), thief=("prompt", 0))
    hub.submit(job_text("j", base, codec="bf16", cohort={"min": 2, "max": 9}))
    offer = thief.await_offer(1)
    thief.take(offer)
    part = next(one for one in thief.manifest(offer).parts if one.name == "prompt")
    stolen = thief.download(part.sha256, part.size_bytes)
    thief.upload(offer, stolen)
    thief.result(offer, stolen)
    fleet.work(a, a.await_offer(1))
    hub.await_event("j", "Published", round=1)
    # An update that comes late may have started there.
    get = BlobGet(id=a.number(), session=a.session, sha256=part.sha256)
    assert isinstance(a.ask(get), BlobInfo)


def test_two_jobs_may_accept_the_same_bytes(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    """Seeded jobs that differ in name alone get equal updates; the one that ends first deletes
    what it needs no more, and the other one still needs it."""
    (a,) = fleet.join("one", a=("lora", 2))
    hub.submit(job_text("one", base, rounds=1))
    first = a.await_offer(1)
    (b,) = fleet.join("two", b=("lora", 2))
    a.describe("two")
    hub.submit(job_text("two", base, rounds=1, cohort={"min": 2, "max": 9}))
    second, other = a.await_offer(1), b.await_offer(1)
    assert (first.task, second.task, other.task) == ("one.1.a", "two.1.a", "two.1.b")
    a.take(second)
    blob = honest_update(a, second)
    a.upload(second, blob)
    assert isinstance(a.result(second, blob), Accepted)
    a.take(first)
    a.upload(first, blob)
    assert isinstance(a.result(first, blob), Accepted)
    hub.await_event("one", "Published", round=1)
    fleet.work(b, other)
    hub.await_event("two", "Published", round=1)
    assert not hub.events("two", "CombineFailed")
