"""A job under each strategy over a real broker: two rounds, and a hub that is killed between."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub.aggregation.strategies import catalogue
from hub.jobs import parse_job
from hub.yaml_text import load_mapping
from tests.system.honest_fleet import Fleet, honest_update
from tests.system.hub_process import HubProcess
from tests.system.small_base import job_text
from wire.tensors import PackedFile

pytestmark = pytest.mark.broker

JOBS = Path(__file__).parents[2] / "docs" / "jobs"
#: Who can take part, by method.
DEVICES = {
    "lora": {"a": ("lora", 2), "b": ("lora", 4), "c": ("lora", 1)},
    "prompt": {"a": ("prompt", 0), "b": ("prompt", 0), "c": ("prompt", 0)},
    "lora+prompt": {"a": ("lora", 2), "b": ("lora", 4), "c": ("prompt", 0)},
    "full": {"a": ("full", 0), "b": ("full", 0), "c": ("full", 0)},
}
SMALL = {"steps": 20, "batch": 1, "seq_len": 32, "min_seq_len": 16}


def job(base: Path, name: str, **changes: Any) -> tuple[str, dict[str, tuple[str, int]]]:
    """Return the documented job of a strategy at a small size, and who can take part in it."""
    file = load_mapping((JOBS / f"{name}.yaml").read_text(), name)
    del file["job"], file["model"]
    file |= {"rounds": 2, "cohort": {"min": 3, "max": 9}, **changes}
    file["local"] = file.get("local", {}) | SMALL
    return job_text("j", base, **file), DEVICES[file["method"]]


def outcome(hub: HubProcess) -> list[tuple[int, str, str | None]]:
    """Return the adapter and the strategy's state after each round."""
    found = [one.data for one in hub.events("j", "Combined")]
    return [(one["round"], one["manifest"], one.get("state")) for one in found]


@pytest.mark.parametrize(
    "played",
    [
        *((name, {}) for name in catalogue()),
        ("diloco", {"method": "full"}),
        ("scaffold", {"method": "full"}),
    ],
    ids=str,
)
def test_two_rounds_go_on_exactly_after_a_kill(
    played: tuple[str, dict[str, Any]], hub: HubProcess, fleet: Fleet, base: Path, tmp_path: Path
) -> None:
    name, changes = played
    text, devices = job(base, name, **changes)
    a, b, c = fleet.join("j", **devices)
    hub.submit(text)
    offers = [device.await_offer(1) for device in (a, b, c)]
    strategy = parse_job(text).chosen_strategy()
    assert strategy.name == name
    term = strategy.local.proximal_mu
    assert [one.work.proximal_mu for one in offers if one.work] == [term] * 3
    for device, offer in zip((a, b, c), offers, strict=True):
        fleet.work(device, offer)
    hub.await_event("j", "Published", round=1)
    hub.restart()
    fleet.greet()
    assert fleet.finish(hub, "j").summary.phase == "done"
    killed = outcome(hub)
    assert [round_ for round_, _, _ in killed] == [1, 2]
    keeps = strategy.server is not None or strategy.local.control is not None
    assert [state is not None for _, _, state in killed] == [keeps] * 2
    hub.stop()
    fleet.close()

    folder = tmp_path / "undisturbed"
    folder.mkdir()
    other, again = HubProcess(folder, hub.broker), Fleet(hub.broker)
    try:
        other.start()
        again.join("j", **devices)
        other.submit(text)
        assert again.finish(other, "j").summary.phase == "done"
        assert outcome(other) == killed
    finally:
        again.close()
        other.kill9()


def test_a_device_gets_its_control_variate_and_the_mean(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    """c_i is -Δ / (K η) after the first round: K = 20, η = 0.5."""
    text, devices = job(base, "scaffold", prompt={"tokens": 4, "lr": 0.5}, codec="raw")
    joined = fleet.join("j", **devices)
    hub.submit(text)
    sent = {}
    for device in joined:
        offer = device.await_offer(1)
        assert offer.work is not None
        assert (offer.work.control, offer.work.own_control) == (None, None)
        fleet.work(device, offer)
        sent[device.id] = read(honest_update(device, offer))
    for device in joined:
        offer = device.await_offer(2)
        work = offer.work
        assert work is not None
        assert work.control is not None
        assert work.own_control is not None
        common = read(device.download(work.control.sha256, work.control.size_bytes))
        own = read(device.download(work.own_control.sha256, work.own_control.size_bytes))
        # bfloat16 keeps 8 bits.
        np.testing.assert_allclose(own, -sent[device.id] / 10, rtol=2**-8)
        np.testing.assert_allclose(common, -sum(sent.values()) / 30, rtol=2**-8, atol=1e-6)
        fleet.work(device, offer)
    assert fleet.finish(hub, "j").summary.phase == "done"


def read(blob: bytes) -> Any:
    with PackedFile.open(blob, {"prompt": (4, 16)}) as packed:
        return packed.get("prompt")
