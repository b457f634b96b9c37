"""A whole job over a real broker: three devices with three roles, two rounds, one adapter."""

import zipfile
from pathlib import Path

import msgspec
import pytest

from hub.cli.client import HubClient
from hub.cli.export import export_gguf
from hub.errors import ConflictError
from hub.export.base_type import BaseType
from hub.hash_cache import HashCache
from hub.models import load_model
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from wire.messages import Cancel, Refused

pytestmark = pytest.mark.broker


def test_three_roles_run_two_rounds_and_leave_an_adapter(
    hub: HubProcess, fleet: Fleet, base: Path, tmp_path: Path
) -> None:
    fleet.join("j", a=("lora", 2), b=("lora", 4), c=("prompt", 0), d=("infer", 0))
    hub.submit(job_text("j", base, cohort={"min": 3, "max": 9}))
    detail = fleet.finish(hub, "j")

    assert detail.summary.phase == "done"
    assert hub.accepted("j") == [(r, d) for r in (1, 2) for d in ("a", "b", "c")]
    roles = {one.device: (one.role, one.rank) for one in detail.rounds[0].members}
    assert roles == {"a": ("lora", 2), "b": ("lora", 4), "c": ("prompt", 0), "d": ("infer", 0)}
    assert {one.state for one in detail.rounds[1].members} == {"delivered"}
    kinds = [one.kind for one in hub.events("j")]
    assert kinds[0] == "Submitted"
    assert kinds.count("Combined") == kinds.count("Published") == 2
    # Every scripted device reports a loss of 2.0 for every variant.
    assert detail.summary.base_loss == detail.summary.heldout_loss == 2.0
    assert detail.loss_after == dict.fromkeys("abcd", 2.0)

    with HubClient(hub.url) as client:
        client.adapter("j", tmp_path / "adapter.zip")
        made = export_gguf(client, "j", tmp_path / "gguf", BaseType.F16, None)
    names = zipfile.ZipFile(tmp_path / "adapter.zip").namelist()
    assert sum(name.endswith("adapter_config.json") for name in names) == 2  # LoRA and prompt
    assert sum(name.endswith("adapter_model.safetensors") for name in names) == 2
    assert set(made.files) == {"adapter.gguf", "base-f16.gguf", "prompt.safetensors"}
    assert made.base_sha256 == load_model(str(base), HashCache()).digest
    assert hub.stop() == 0


def test_a_rule_tells_devices_which_factors_to_train(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    large, small, prompt = fleet.join("j", a=("lora", 4), b=("lora", 2), c=("prompt", 0))
    hub.submit(job_text("j", base, rule="alternate", cohort={"min": 3, "max": 9}))
    asked = []
    for round_ in (1, 2):
        offers = [one.await_offer(round_) for one in (large, small, prompt)]
        asked.append([(one.work.trains, one.work.rest) for one in offers if one.work])
        for one, offer in zip((large, small, prompt), offers, strict=True):
            fleet.work(one, offer)
    detail = fleet.finish(hub, "j")
    assert asked == [
        [("b", "frozen"), ("b", "frozen"), ("both", "frozen")],
        [("a", "frozen"), ("a", "frozen"), ("both", "frozen")],
    ]
    assert detail.summary.phase == "done"
    assert hub.accepted("j") == [(r, d) for r in (1, 2) for d in ("a", "b", "c")]


def test_a_device_with_room_for_cores_alone_takes_part(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    large, tiny = fleet.join("j", a=("lora", 4)), fleet.add("b", rank=2)
    tiny.rung = "core"
    tiny.describe("j")
    hub.submit(job_text("j", base, method="lora", cohort={"min": 2, "max": 9}))
    offers = [one.await_offer(1) for one in (*large, tiny)]
    assert [(one.rung, one.work.trains) for one in offers if one.work] == [
        ("resident", "both"), ("core", "core"),
    ]  # fmt: skip
    for one, offer in zip((*large, tiny), offers, strict=True):
        fleet.work(one, offer)
    assert fleet.finish(hub, "j").summary.phase == "done"
    assert hub.accepted("j") == [(r, d) for r in (1, 2) for d in ("a", "b")]


def test_an_update_of_the_other_factor_is_refused(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    (device,) = fleet.join("j", a=("lora", 4))
    hub.submit(job_text("j", base, rule="freeze_a"))
    offer = device.await_offer(1)
    device.take(offer)
    assert offer.work is not None
    both = msgspec.structs.replace(offer.work, trains="both")
    blob = device.make_update(msgspec.structs.replace(offer, work=both))
    device.upload(offer, blob)
    answer = device.result(offer, blob)
    assert isinstance(answer, Refused)
    assert "names or shapes differ" in answer.reason


def test_a_second_job_of_the_same_name_is_refused(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    hub.submit(job_text("j", base))
    with pytest.raises(ConflictError, match="'j' already"):
        hub.submit(job_text("j", base, rounds=5))
    assert hub.job("j").summary.rounds == 2
    hub.restart()
    with pytest.raises(ConflictError, match="'j' already"):
        hub.submit(job_text("j", base))


def test_a_cancelled_job_tells_its_devices(hub: HubProcess, fleet: Fleet, base: Path) -> None:
    taken, offered, idle = fleet.join("j", a=("lora", 2), b=("lora", 2), c=("prompt", 0))
    hub.submit(job_text("j", base, cohort={"min": 3, "max": 9}))
    offer = taken.await_offer(1)
    taken.take(offer)
    assert offered.await_offer(1).task == "j.1.b"
    fleet.work(idle, idle.await_offer(1))
    with HubClient(hub.url) as client:
        assert client.cancel("j").phase == "cancelled"

    for device in (taken, offered):

        def told(device=device) -> list[Cancel]:  # type: ignore[no-untyped-def]
            device.pump(0.01)
            return [one for one in device.seen if isinstance(one, Cancel)]

        command = poll("the cancellation", told)[0]
        assert (command.task, "cancelled" in command.reason) == (f"j.1.{device.id}", True)
    idle.pump(0.01)
    assert not [one for one in idle.seen if isinstance(one, Cancel)]
    assert hub.job("j").summary.phase == "cancelled"
