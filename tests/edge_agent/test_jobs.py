"""What a device plans for the jobs it hears of."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.calibration import Calibration, Measured
from edge_agent.failures import Failures
from edge_agent.jobs import KnownJobs, residuals_of
from wire.errors import TooLargeError
from wire.messages import (
    AdapterRef,
    BaseRef,
    DeviceInfo,
    JobKnobs,
    ModelShape,
    RoundAnnounce,
    decode,
    encode,
)

SHAPE = ModelShape(
    model_type="llama", hidden_size=128, layers=4, mlp_size=344, heads=4, kv_heads=4, head_dim=32,
    vocab_size=260, tied_embeddings=False, parameters=860_000, weight_bytes=4,
)  # fmt: skip
ANNOUNCE = RoundAnnounce(
    job="notes",
    round=0,
    rounds=5,
    phase="open",
    ts=0,
    knobs=JobKnobs(
        method="lora+prompt",
        rank=16,
        min_rank=4,
        batch=16,
        min_batch=8,
        seq_len=256,
        min_seq_len=256,
        prompt_tokens=8,
    ),
    base=BaseRef(name="toy", digest="0" * 64, size_bytes=3_000_000, shape=SHAPE),
    adapter=AdapterRef(sha256="1" * 64, size_bytes=900),
)
CALIBRATION = Calibration(
    measured=Measured(lean_bytes=200_000_000, full_bytes=330_000_000, wide=True)
)


def known(folder: Path, limit_bytes: int) -> KnownJobs:
    return KnownJobs(Failures(folder / "failures.json", limit_bytes), folder)


def test_nothing_is_promised_before_the_worker_was_measured(tmp_path: Path) -> None:
    jobs = known(tmp_path, 2_000_000_000)
    jobs.learn(ANNOUNCE)
    assert jobs.plan(None) == {}
    assert jobs.plan(CALIBRATION)["notes"].role == "lora"


def test_a_device_that_could_not_start_a_worker_says_what_is_missing(tmp_path: Path) -> None:
    jobs = known(tmp_path, 100_000_000)
    jobs.learn(ANNOUNCE)
    plan = jobs.plan(Calibration())["notes"]
    assert plan.role == "none"
    assert plan.missing_bytes > 100_000_000


def test_a_rung_that_ran_out_of_memory_is_not_planned_again(tmp_path: Path) -> None:
    jobs = known(tmp_path, 2_000_000_000)
    jobs.learn(ANNOUNCE)
    first = jobs.plan(CALIBRATION)["notes"]
    jobs.lower("notes", first)
    second = jobs.plan(CALIBRATION)["notes"]
    assert second.predicted_peak_bytes < first.predicted_peak_bytes
    assert second.rung != first.rung
    assert (second.rank, second.batch) == (first.rank, first.batch)
    fitting = [line for line in jobs.lines_of("notes") if line.fits]
    assert fitting[0] == second
    assert max(line.predicted_peak_bytes for line in fitting) < first.predicted_peak_bytes
    jobs.lower("notes", first)  # told twice, or of a higher line: nothing rises again
    assert jobs.plan(CALIBRATION)["notes"] == second


@pytest.mark.parametrize(
    "odd",
    [
        {"knobs": msgspec.structs.replace(ANNOUNCE.knobs, batch=-16)},
        {"knobs": msgspec.structs.replace(ANNOUNCE.knobs, seq_len=10**40)},
        {"base": msgspec.structs.replace(ANNOUNCE.base, shape=msgspec.structs.replace(
            SHAPE, layers=2**62, hidden_size=2**62))},
    ],
    ids=["negative", "large", "model"],
)  # fmt: skip
def test_a_job_of_impossible_numbers_leaves_the_others_their_plans(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    jobs = known(tmp_path, 2_000_000_000)
    jobs.learn(msgspec.structs.replace(ANNOUNCE, job="odd", **odd))
    jobs.learn(ANNOUNCE)
    plans = jobs.plan(CALIBRATION)
    assert plans["notes"].role == "lora"
    info = DeviceInfo(
        session="s", ts=0, agent_version="0", wire_version=1, machine="m", cores=1,
        memory_limit_bytes=1, memory_reason="r", codecs=["raw"], plans=plans,
    )  # fmt: skip
    assert decode(encode(info), DeviceInfo).plans == plans  # the hub takes it


def test_more_jobs_than_a_device_can_tell_of_are_not_remembered(tmp_path: Path) -> None:
    jobs = known(tmp_path, 2_000_000_000)
    for number in range(64):
        jobs.learn(msgspec.structs.replace(ANNOUNCE, job=f"job{number}"))
    with pytest.raises(TooLargeError, match="64 jobs"):
        jobs.learn(ANNOUNCE)
    assert len(jobs.active) == 64
    jobs.learn(msgspec.structs.replace(ANNOUNCE, job="job7", phase="done"))
    assert jobs.learn(ANNOUNCE)
    assert "notes" in jobs.active


@pytest.mark.parametrize("phase", ["failed", "cancelled"])
def test_a_job_that_is_over_is_forgotten_and_its_adapter_no_longer_gathered(
    tmp_path: Path, phase: str
) -> None:
    jobs = known(tmp_path, 2_000_000_000)
    jobs.learn(ANNOUNCE)
    jobs.plan(CALIBRATION)
    assert [reference.sha256 for reference in jobs.adapters()] == ["1" * 64]
    assert jobs.learn(msgspec.structs.replace(ANNOUNCE, phase=phase))
    assert jobs.active == []
    assert jobs.adapters() == []


def test_the_last_adapter_of_a_job_that_is_done_is_still_gathered(tmp_path: Path) -> None:
    """The device's user goes on with it; until another one is done, or it goes on itself."""
    jobs = known(tmp_path, 2_000_000_000)
    done = msgspec.structs.replace(ANNOUNCE, phase="done")
    jobs.learn(done)  # this device had no role in it
    assert jobs.adapters() == []
    jobs.learn(ANNOUNCE)
    jobs.plan(CALIBRATION)
    assert jobs.learn(done)
    assert jobs.active == []
    assert [reference.sha256 for reference in jobs.adapters()] == ["1" * 64]
    assert jobs.announced(ANNOUNCE.job) is jobs.finished is done
    jobs.learn(ANNOUNCE)
    assert jobs.finished is None


def test_a_new_round_of_a_known_job_changes_no_plan(tmp_path: Path) -> None:
    jobs = known(tmp_path, 2_000_000_000)
    assert jobs.learn(ANNOUNCE)
    assert not jobs.learn(msgspec.structs.replace(ANNOUNCE, round=2, phase="training"))


@pytest.mark.parametrize("phase", ["done", "failed", "cancelled"])
def test_a_job_that_is_over_leaves_no_residual(tmp_path: Path, phase: Any) -> None:
    jobs = known(tmp_path, 2_000_000_000)
    for job in ("notes", "other"):
        residuals_of(tmp_path, job).mkdir(parents=True)
        (residuals_of(tmp_path, job) / "kept.safetensors").write_bytes(b"x")
    # It may have ended while this device was away: its last announcement is all that it hears.
    jobs.learn(msgspec.structs.replace(ANNOUNCE, phase=phase))
    assert not residuals_of(tmp_path, "notes").exists()
    assert residuals_of(tmp_path, "other").exists()
