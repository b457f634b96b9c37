"""What a codec leaves out counts once a real hub says so, whoever dies meanwhile."""

from pathlib import Path
from typing import Any

import pytest

from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text

pytestmark = pytest.mark.broker

ENDED = ("done", "failed", "cancelled")


@pytest.mark.parametrize("codec", ["topk", "entropy"])
def test_an_offer_names_the_last_accepted_task_where_the_codec_needs_it(
    hub: HubProcess, fleet: Fleet, base: Path, codec: str
) -> None:
    one, other = (fleet.add(name) for name in "ab")
    for device in (one, other):
        device.codecs = [codec]
        device.describe("j")
    hub.submit(job_text("j", base, codec=codec))
    first = {device.id: device.await_offer(1) for device in (one, other)}
    assert [offer.accepted for offer in first.values()] == ["", ""]
    fleet.work(one, first["a"])
    other.take(first["b"], accept=False)
    second = {device.id: device.await_offer(2) for device in (one, other)}
    assert second["a"].accepted == ("j.1.a" if codec == "topk" else "")
    assert second["b"].accepted == ""
    hub.restart()  # it reads that in its log
    fleet.greet()
    one.offers.clear()
    assert one.await_offer(2).accepted == second["a"].accepted


def events(hub: HubProcess, kind: str) -> list[tuple[int, str]]:
    return [(one.data["round"], one.data["device"]) for one in hub.events("j", kind)]


SHAPE: dict[str, Any] = {
    "method": "lora",
    "lora": {"rank": 4, "min_rank": 4},
    "local": {"steps": 60, "batch": 4, "min_batch": 4, "seq_len": 64, "min_seq_len": 64},
    "cohort": {"min": 1, "max": 9},
    "codec": "topk",
    "rounds": 3,
}


@pytest.mark.slow
def test_an_agent_that_is_killed_before_its_update_is_accepted_begins_with_the_same_memory(
    hub: HubProcess, broker: Any, tmp_path: Path
) -> None:
    base = write_trainable_base(tmp_path / "trainable")
    data = write_data(tmp_path / "private" / "my.jsonl", marker="text")
    folder = tmp_path / "a" / "state" / "residuals" / "j"
    kept, pending = folder / "kept.safetensors", folder / "pending.safetensors"
    # With so little memory it streams, and needs no half a minute for the heavy libraries.
    with AgentProcess(tmp_path / "a", broker.url, "a", data, 350_000_000) as agent:
        hub.submit(job_text("j", base, **SHAPE))
        poll("the second task", lambda: (2, "a") in events(hub, "Taken"), 150)
        # The hub is gone while the second task is done: nobody can accept it.
        hub.kill9()
        poll("the second residual", lambda: kept.is_file() and pending.is_file(), 150)
        agent.kill9()
        before = kept.read_bytes()
        assert b'"task":"j.1.a"' in before
        assert b'"task":"j.2.a"' in pending.read_bytes()
        hub.start()
        agent.start()
        poll("the second update", lambda: (2, "a") in events(hub, "UpdateAccepted"), 150)
        agent.kill9()  # whether it heard of that or not
        assert kept.read_bytes() == before
        assert b'"task":"j.2.a"' in pending.read_bytes()
        agent.start()
        poll("the end", lambda: hub.job("j").summary.phase in ENDED, 150)
        assert hub.job("j").summary.phase == "done", hub.log[-3000:]
        assert hub.accepted("j") == [(1, "a"), (2, "a"), (3, "a")]
        poll("the residual's end", lambda: not folder.exists())
