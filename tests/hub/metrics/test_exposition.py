"""The hub's numbers: a job played by hand, counted by hand, read by Prometheus' own parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub.fleet.sessions import Device
from hub.metrics.exposition import Exposition, Snapshot
from hub.rounds import events
from hub.rounds.state import JobState
from tests.hub.rounds.conftest import Play
from wire.messages import DeviceInfo, RungPlan

Key = tuple[str, tuple[tuple[str, str], ...]]


def told(text: bytes) -> dict[Key, float]:
    """Return each sample by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def snapshot(*jobs: tuple[str, JobState, int], devices: tuple[Device, ...] = ()) -> Snapshot:
    return Snapshot(list(jobs), list(devices), True)


@pytest.fixture
def job() -> Play:
    """Return two rounds: a delivers twice, b fails, then delivers; e measures."""
    job = Play(rounds=2)
    job.open("a", "b", job.member("e", "evaluate"), at=5, min_updates=1)
    job.evaluated("e", 1, base=(3.0, 10), adapter=(3.0, 10))
    job.send(events.TaskFailed(round=1, device="b", reason="out of memory"), 6)
    job.update("a", at=7)
    job.publish(at=8)
    job.open("a", "b", at=10)
    job.evaluated("a", 2, adapter=(2.0, 10))
    job.update("a", at=12)
    job.update("b", at=15)
    return job


def test_a_job_is_counted(job: Play) -> None:
    found = told(Exposition().text(snapshot(("j", job.state, 2))))
    of_job = {key[0]: value for key, value in found.items() if key[1] == (("job", "j"),)}
    assert of_job == {
        "lorikeet_job_round": 2.0,
        "lorikeet_job_rounds": 2.0,
        "lorikeet_job_base_loss": 3.0,
        "lorikeet_job_heldout_loss": 2.0,
        "lorikeet_update_bytes_total": 3000.0,
        "lorikeet_training_tokens_total": 300.0,
        "lorikeet_round_seconds_total": 7.0,  # 5 to 7, 10 to 15
        "lorikeet_rounds_closed_total": 2.0,
    }
    states = {
        dict(key[1])["state"]: value for key, value in found.items() if key[0] == "lorikeet_tasks"
    }
    assert states["delivered"] == 4.0
    assert states["failed"] == 1.0
    assert found["lorikeet_job_phase", (("job", "j"), ("phase", "aggregating"))] == 1.0
    assert found["lorikeet_rounds_ended_total", (("how", "published"), ("job", "j"))] == 1.0


def test_counts_go_on_as_the_job_does(job: Play) -> None:
    exposition = Exposition()
    exposition.text(snapshot(("j", job.state, 2)))
    job.publish(at=20)
    found = told(exposition.text(snapshot(("j", job.state, 2))))
    assert found["lorikeet_rounds_ended_total", (("how", "published"), ("job", "j"))] == 2.0
    assert found == told(Exposition().text(snapshot(("j", job.state, 2)))) | {
        key: value for key, value in found.items() if key[0].startswith(("process_", "python_"))
    }


def test_devices_are_counted_by_state_and_role_and_none_is_named() -> None:
    plan = RungPlan(
        role="lora", rung="streamed", rank=8, batch=1, seq_len=64, predicted_peak_bytes=1, fits=True
    )
    info = DeviceInfo(
        session="s", ts=0.0, agent_version="", wire_version=1, machine="", cores=1.0,
        memory_limit_bytes=1, memory_reason="", codecs=[], plans={"j": plan},
    )  # fmt: skip
    here = Device(id="ward", first_seen=0, last_seen=0, session="s", state="ready", info=info)
    gone = Device(id="lab", first_seen=0, last_seen=0, state="lost", info=info)
    text = Exposition().text(snapshot(devices=(here, gone)))
    found = told(text)
    assert found["lorikeet_devices", (("state", "ready"),)] == 1.0
    assert found["lorikeet_devices", (("state", "lost"),)] == 1.0
    assert found["lorikeet_devices_by_role", (("job", "j"), ("role", "lora"))] == 1.0
    assert b"ward" not in text
    assert found["lorikeet_broker_connected", ()] == 1.0
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_a_job_before_its_first_round_has_numbers_too() -> None:
    found = told(Exposition().text(snapshot(("j", Play(rounds=3).state, 3))))
    assert found["lorikeet_job_round", (("job", "j"),)] == 0.0
    assert ("lorikeet_job_heldout_loss", (("job", "j"),)) not in found
