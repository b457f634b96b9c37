"""The hub is killed with -9 in every phase and started again: the job goes on, and counts once."""

import hashlib
from pathlib import Path

import pytest

from hub.api.control import JobDetail
from hub.cli.client import HubClient
from hub.store.database import Store
from tests.scripted_device import ScriptedDevice
from tests.system.honest_fleet import Fleet, deliver, honest_update
from tests.system.hub_process import HubProcess
from tests.system.small_base import job_text, write_base
from wire.messages import Accepted, BlobFin, BlobInit, Credit, Offer

pytestmark = pytest.mark.broker

DEVICES = {"a": ("lora", 2), "b": ("lora", 4), "c": ("prompt", 0)}
EACH_ONCE = [(round_, device) for round_ in (1, 2) for device in "abc"]
ALL = {"min": 3, "max": 9}


def killed(hub: HubProcess, fleet: Fleet) -> None:
    """Kill and restart the hub; agents greet again when they see its new epoch."""
    hub.restart()
    fleet.greet()


def finish(hub: HubProcess, fleet: Fleet, spared: list[ScriptedDevice], round_: int) -> JobDetail:
    """End the job; devices in ``spared`` must not be offered ``round_`` again."""
    marks = {device.id: len(device.seen) for device in spared}
    detail = fleet.finish(hub, "j")
    for device in spared:
        again = [
            message
            for message in device.seen[marks[device.id] :]
            if isinstance(message, Offer) and message.round == round_
        ]
        assert again == []
    assert detail.summary.phase == "done"
    assert hub.accepted("j") == EACH_ONCE
    kinds = [one.kind for one in hub.events("j")]
    assert kinds.count("Combined") == kinds.count("Published") == 2
    return detail


def test_killed_while_it_waits_for_devices(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    fleet.join("j", a=("lora", 2))
    hub.submit(job_text("j", base, cohort=ALL))
    hub.await_event("j", "Waiting")
    killed(hub, fleet)
    fleet.join("j", b=("lora", 4), c=("prompt", 0))
    finish(hub, fleet, [], 1)


def test_killed_while_offering(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    fleet.join("j", **DEVICES)
    hub.submit(job_text("j", base, cohort=ALL))
    hub.await_event("j", "Opened")
    killed(hub, fleet)
    finish(hub, fleet, [], 1)
    assert len(hub.events("j", "Opened")) == 3  # one a round, and the final evaluation


def test_killed_while_two_train_and_one_has_delivered(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    a, b, c = fleet.join("j", **DEVICES)
    hub.submit(job_text("j", base, cohort=ALL))
    offers = {device.id: device.await_offer(1) for device in (a, b, c)}
    for device in (a, b, c):
        device.take(offers[device.id])
    deliver(a, offers["a"])
    a.pump(0.01)
    killed(hub, fleet)
    # b trained on and never noticed; c starts the task anew when it is offered again.
    fleet.served.add(offers["b"].task)
    deliver(b, offers["b"])
    finish(hub, fleet, [a], 1)


def test_killed_half_way_through_an_upload(hub: HubProcess, fleet: Fleet, tmp_path: Path) -> None:
    """Rank 4 of a base with 17 408 entries a rank, raw: 278 528 bytes of numbers, 5 chunks."""
    large = write_base(tmp_path / "large", hidden=512, mlp=1024, layers=2)
    a, _ = fleet.join("j", a=("lora", 4), b=("lora", 4))
    hub.submit(job_text("j", large, cohort={"min": 2, "max": 9}, codec="raw", rounds=1))
    offer = a.await_offer(1)
    a.take(offer)
    blob = honest_update(a, offer)
    sha256 = hashlib.sha256(blob).hexdigest()
    fin = {"session": a.session, "task": offer.task, "sha256": sha256}
    first = a.upload(offer, blob, stop_after=3)
    assert isinstance(first, Credit)
    assert first.missing == [(0, 5)]
    half = a.ask(BlobFin(id=a.number(), **fin))
    assert isinstance(half, Credit)
    assert half.missing == [(3, 2)]
    killed(hub, fleet)
    resumed = a.ask(BlobInit(id=a.number(), size_bytes=len(blob), **fin))
    assert isinstance(resumed, Credit)
    assert resumed.missing == [(3, 2)]
    for index in (3, 4):
        a.send_chunk(sha256, index, blob)
    assert isinstance(a.ask(BlobFin(id=a.number(), **fin)), Accepted)
    assert isinstance(a.result(offer, blob), Accepted)
    fleet.served.add(offer.task)
    fleet.finish(hub, "j")
    assert hub.accepted("j") == [(1, "a"), (1, "b")]


def test_killed_when_everything_was_accepted(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    a, b, c = fleet.join("j", **DEVICES)
    hub.submit(job_text("j", base, cohort=ALL))
    for device in (a, b, c):
        fleet.work(device, device.await_offer(1))
        device.pump(0.01)
    # Whether the combination was logged by now is chance; either must do.
    killed(hub, fleet)
    hub.await_event("j", "Published", round=1)
    finish(hub, fleet, [a, b, c], 1)


def test_killed_between_rounds(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    a, b, c = fleet.join("j", **DEVICES)
    hub.submit(job_text("j", base, cohort=ALL))
    for device in (a, b, c):
        fleet.work(device, device.await_offer(1))
    hub.await_event("j", "Published", round=1)
    killed(hub, fleet)
    finish(hub, fleet, [a, b, c], 1)


def test_killed_during_the_final_evaluation(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    a, b, c = fleet.join("j", **DEVICES)
    hub.submit(job_text("j", base, cohort=ALL))
    for round_ in (1, 2, 3):
        for device in (a, b, c) if round_ < 3 else (a,):
            fleet.work(device, device.await_offer(round_))
    hub.await_event("j", "Evaluated", round=3, device="a")
    a.pump(0.01)
    killed(hub, fleet)
    detail = finish(hub, fleet, [a], 3)
    assert detail.loss_after == dict.fromkeys("abc", 2.0)
    with HubClient(hub.url) as client:
        client.adapter("j", hub.folder / "adapter.zip")


def test_killed_while_a_candidate_is_evaluated(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    """One device has answered, one has taken its task, one was not heard of."""
    a, b, c = fleet.join("j", **DEVICES)
    gate = {"metric": "heldout_loss", "max_regression": 0.01}
    hub.submit(job_text("j", base, cohort=ALL, publish_if=gate))
    for device in (a, b, c):
        offer = device.await_offer(1)
        device.take(offer)
        device.evaluated(offer)
        deliver(device, offer)
        fleet.served.add(offer.task)
    offers = {device.id: device.await_offer(1) for device in (a, b, c)}
    assert [offer.task for offer in offers.values()] == [f"j.1.candidate.{one}" for one in "abc"]
    assert len({offer.adapter.sha256 for offer in offers.values()}) == 1
    fleet.work(a, offers["a"])
    b.take(offers["b"])
    assert not hub.events("j", "Published")
    killed(hub, fleet)
    detail = finish(hub, fleet, [a], 1)
    combined = hub.events("j", "Combined")[0].data
    assert combined["manifest"] == offers["a"].adapter.sha256
    comparison = detail.rounds[0].comparison
    assert comparison is not None
    assert (comparison.loss, comparison.reference, comparison.devices) == (2.0, 2.0, 3)


def test_killed_when_a_candidate_was_just_judged(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    """Whether it was announced by then is chance; either must do."""
    a, b, c = fleet.join("j", **DEVICES)
    gate = {"metric": "heldout_loss", "max_regression": 0.01}
    hub.submit(job_text("j", base, cohort=ALL, publish_if=gate))
    for device in (a, b, c):
        offer = device.await_offer(1)
        device.evaluated(offer)
        fleet.work(device, offer)
    for device in (a, b, c):
        fleet.work(device, device.await_offer(1))
    killed(hub, fleet)
    hub.await_event("j", "Published", round=1)
    finish(hub, fleet, [], 1)


def test_killed_again_and_again(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    """Also after the job is over: its record and its adapter are still there."""
    a, b, c = fleet.join("j", **DEVICES)
    hub.submit(job_text("j", base, cohort=ALL, rounds=1))
    for device in (a, b, c):
        fleet.work(device, device.await_offer(1))
        killed(hub, fleet)
    detail = fleet.finish(hub, "j")
    assert hub.accepted("j") == [(1, device) for device in "abc"]
    before = hub.events("j")
    hub.restart()
    assert hub.job("j") == detail
    assert hub.events("j") == before


def test_killed_between_a_jobs_row_and_its_first_event(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    """The job's name may be free again or not, but the hub and its other jobs must live."""
    hub.submit(job_text("whole", base))
    hub.kill9()
    database = next(hub.folder.rglob("*.db"))
    store = Store(f"sqlite:///{database}")
    row = store.jobs()[0]
    spec = dict(row.spec) | {"file": job_text("half", base)}
    store.add_job("half", spec, row.created + 1)
    store.close()
    hub.start()
    with HubClient(hub.url) as client:
        assert "whole" in {job.job for job in client.jobs()}
        assert client.job("whole").summary.phase == "open"


def test_a_base_that_went_away_stops_only_its_own_job(
    hub: HubProcess, fleet: Fleet, base: Path, tmp_path: Path
) -> None:
    other = write_base(tmp_path / "other", hidden=32)
    hub.submit(job_text("gone", other))
    hub.submit(job_text("here", base))
    hub.kill9()
    other.rename(tmp_path / "elsewhere")
    hub.start()
    assert hub.job("here").summary.phase == "open"
