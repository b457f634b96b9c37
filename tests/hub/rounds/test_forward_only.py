"""Rounds in which devices train without backprop: what they are offered, and what is combined."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from hub.jobs import parse_job
from hub.rounds.asked import counted_tokens, forward_in_steps, forward_reach, kind_of, local_seed
from hub.rounds.combining import combine_round
from tests.hub.rounds.test_combining import Job
from wire.forward_only import pack_steps, replay

STEPS = [0.25, -0.5, 0.125, 0.0625]
SEED = 5


def combined(job: Job, *updates: object) -> np.ndarray:
    """Return the layer's product after a round."""
    from hub.aggregation.contract import Trained
    from hub.rounds.actions import Combine

    made = combine_round(
        job.store,
        job.adapters,
        Combine(round=job.round + 1, start=job.now, state=job.state, updates=updates),
        rule=job.rule,
        strategy=job.strategy,
        trained=lambda one, now: Trained(one.device, one.tokens, one.staleness(now)),
        codec="raw",
        seed=SEED,
    )
    job.now = made.manifest
    return job.product


@pytest.mark.parametrize("rule", ["stack_svd", "core"])
def test_steps_count_as_the_cores_to_which_they_lead(tmp_path: Path, rule: str) -> None:
    forward, explicit = Job(tmp_path / "a", "fedavg", rule), Job(tmp_path / "b", "fedavg", rule)
    matrix = [[3.0, 0, 0], [0, 2, 0], [0, 0, 0]]
    for job in (forward, explicit):
        job.play(job.update("x", job.towards(matrix)))
    core = replay(local_seed(SEED, 2), [2], STEPS).values().reshape(2, 2)
    sent = forward.update("a", forward.towards(matrix))
    sent = msgspec.structs.replace(
        sent,
        role="infer",
        rung="forward-only",
        steps=4,
        sha256=forward.store.put(pack_steps(STEPS)),
    )
    update = msgspec.structs.replace(
        explicit.update("a", {"q.core": core}), role="lora", rung="core", rank=2
    )
    found = combined(forward, sent)
    np.testing.assert_array_equal(found, combined(explicit, update))
    assert not np.allclose(found, matrix, atol=0.05)
    assert not list((forward.store.folder / "tmp").iterdir())


def test_a_round_combines_both_kinds_by_their_weights(tmp_path: Path) -> None:
    job = Job(tmp_path, "fedavg")
    job.play(job.update("x", job.towards([[3.0, 0, 0], [0, 2, 0], [0, 0, 0]])))
    other = job.towards([[1.0, 0, 0], [0, 4, 0], [0, 0, 0]])
    sent = msgspec.structs.replace(
        job.update("a", other),
        role="infer", rung="forward-only", steps=4, tokens=100,
        sha256=job.store.put(pack_steps([0.0] * 4)),
    )  # fmt: skip
    # Half stays, half goes there: the mean of both is of rank 2, so that nothing is cut.
    product = combined(job, sent, job.update("b", other))
    np.testing.assert_allclose(product, [[2, 0, 0], [0, 3, 0], [0, 0, 0]], atol=1e-5)


def test_who_infers_trains_a_part_of_lora() -> None:
    assert kind_of("infer") == "lora"


def test_a_core_may_move_as_far_as_with_backprop() -> None:
    local = parse_job("job: j\nmodel: {base: b}\nlocal: {lr: 0.01, steps: 5}").local
    assert forward_reach(local) == pytest.approx(0.5)  # ten times 0.01 × 5


def test_looking_takes_as_long_as_many_steps() -> None:
    """By hand: 140 directions of two losses, 20 batches and the first again, 16 rows each; a step
    goes three times through 4 rows."""
    text = "job: j\nmodel: {base: b}\nlocal: {batch: 4, forward: %s}"
    assert forward_in_steps(parse_job(text % "{}").local) == 402  # 301 * 16 / 12
    assert forward_in_steps(parse_job(text % "{steps: 1, batch: 1}").local) == 1
    assert forward_in_steps(parse_job(text % "null").local) == 0


def test_as_many_directions_as_numbers_count_as_one_step_on_their_tokens(tmp_path: Path) -> None:
    job = Job(tmp_path, "fedavg")
    update = job.update("a", {"q.lora_A": [[0.0] * 3] * 2, "q.lora_B": [[0.0] * 2] * 3}, tokens=800)
    local = parse_job("job: j\nmodel: {base: b}\nlocal: {forward: {fresh: 2}}").local
    manifest = job.adapters.manifest(job.now)
    assert counted_tokens(update, local, manifest) == 800
    looked = msgspec.structs.replace(update, role="infer", rung="forward-only")
    # 16 directions on 100 tokens each, new ones before every second; of 4 numbers: 4 steps.
    assert counted_tokens(looked, local, manifest) == 400
