"""Public text goes into the adapter as one device more would bring it; trouble stops no round."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from hub.aggregation.rules import product_rules
from hub.aggregation.strategies import configured
from hub.own_text.worker import Worker
from hub.rounds.own_round import MEASURED, StoppedError
from tests.hub.rounds.own_text_job import BATCH, SEQ_LEN, STEPS, OwnTextJob

FIRST = {"public_loss_first", "public_loss_last", "public_tokens", "public_s"}


#: What certainly changes when a role trains.
TRAINED = {
    "lora": "model.layers.0.mlp.up_proj",
    "prompt": "prompt",
    "full": "model.layers.0.mlp.up_proj.weight",
}


@pytest.mark.parametrize("role", TRAINED)
def test_the_outcome_is_that_of_a_device_that_trains_on_it_next(tmp_path: Path, role: str) -> None:
    """Expected: the same rule, on what a worker makes of the devices' adapter by itself."""
    job = OwnTextJob(tmp_path / "j", role=role)
    updates = [
        job.drawn("a", role=role),
        job.drawn("bb", role="prompt" if role == "lora" else role),
    ]
    alone = job.combine(*updates)
    worker = Worker(tmp_path / "log")
    try:
        task = job.own()._task(1, alone.manifest, str(job.public), tmp_path, job.local(1))
        done = worker.do(task, 120)
    finally:
        worker.close()
    assert done.update is not None
    sha256 = job.store.put(done.update.read_bytes())
    expected = job.combine(job.update("hub", sha256, 1, alone.manifest, role), start=alone.manifest)
    found = job.combine(*updates, own=job.own())
    assert found.problem == ""
    wanted, started = job.tensors(expected.manifest), job.tensors(alone.manifest)
    for name, value in job.tensors(found.manifest).items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-5)
    part = TRAINED[role]
    assert np.abs(wanted[part] - started[part]).max() > 1e-3, "it did train"
    assert set(found.record) == {"weight.a", "weight.bb", *MEASURED}
    assert 0 < found.record["public_tokens"] <= STEPS * BATCH * SEQ_LEN
    # The public text is spoken like the validation text, and the devices' updates are noise.
    assert found.record["public_loss_last"] < found.record["public_loss_first"]
    assert found.record["validation_loss"] < found.record["validation_base_loss"]
    # What no log names any more, and the one that follows the start in the log.
    assert found.manifest != alone.manifest
    previous = job.adapters.manifest(found.manifest).previous
    assert previous is not None
    assert previous.sha256 == job.start


def test_after_a_step_on_products_nothing_is_spoilt_by_a_basis_that_seems_the_same(
    tmp_path: Path,
) -> None:
    """Momentum takes the product apart anew, so what is added to it stands in a new basis, too."""
    job = OwnTextJob(tmp_path / "j", "fedit")
    update = job.drawn("a")
    strategy = configured("fedavgm", {})
    exact = job.combine(update, own=job.own(), strategy=strategy)
    coded = job.combine(update, own=job.own(), strategy=strategy, codec="auto")
    wanted, found = job.tensors(exact.manifest), job.tensors(coded.manifest)
    for target in job.adapters.manifest(exact.manifest).shapes:
        apart = np.linalg.norm(found[target] - wanted[target])
        assert apart < 0.02 * np.linalg.norm(wanted[target]), target


@pytest.mark.slow
@pytest.mark.parametrize("rule", product_rules())
def test_every_rule_takes_public_text_in_two_rounds(tmp_path: Path, rule: str) -> None:
    job = OwnTextJob(tmp_path / "j", rule)
    start, losses = job.start, []
    for round_ in (1, 2):
        own = job.own(round_)
        found = job.combine(job.drawn("a", round_), own=own, round_=round_, start=start)
        assert found.problem == ""
        start = found.manifest
        losses.append(found.record["validation_loss"])
    assert losses[1] < losses[0] < found.record["validation_base_loss"]


def test_the_same_round_again_gives_the_same_adapter(tmp_path: Path) -> None:
    job = OwnTextJob(tmp_path / "j")
    first, second = (job.combine(job.drawn("a"), own=job.own()) for _ in range(2))
    assert (first.manifest, first.problem) == (second.manifest, "")


def test_a_text_that_is_gone_leaves_the_devices_updates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = OwnTextJob(tmp_path / "j")
    alone = job.combine(job.drawn("a"))
    job.public.unlink()
    with caplog.at_level(logging.WARNING):
        found = job.combine(job.drawn("a"), own=job.own())
    assert found.manifest == alone.manifest
    assert found.problem.startswith("hub.public_data: ")
    assert "does not exist" in found.problem
    assert not FIRST & set(found.record)
    assert found.record["validation_loss"] > 0, "a new worker measures it all the same"
    assert [one.message for one in caplog.records] == [
        f"job j, round 1 goes on without {found.problem}"
    ]


def test_a_worker_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    job = OwnTextJob(tmp_path / "j")
    alone = job.combine(job.drawn("a"))
    own = job.own(max_s=0.01)
    found = job.combine(job.drawn("a"), own=own)
    assert found.manifest == alone.manifest
    assert found.problem.count("took longer than 0.01 s") == 2
    assert own._worker is None


def test_a_worker_that_cannot_be_started_stops_no_round(tmp_path: Path) -> None:
    job = OwnTextJob(tmp_path / "j")
    alone = job.combine(job.drawn("a"))
    found = job.combine(job.drawn("a"), own=job.own(log_file=tmp_path / "none" / "log"))
    assert found.manifest == alone.manifest
    assert found.problem.count("can't be started: ") == 2


def test_an_update_out_of_all_proportion_is_left_out(tmp_path: Path) -> None:
    """Where the check takes the learning rate for 0, whatever moves has moved too far."""
    job = OwnTextJob(tmp_path / "j")
    alone = job.combine(job.drawn("a"))
    own = job.own(validation=None)
    task = own._task
    real = own.work.local
    own._task = lambda *given: task(*given[:4], real)  # type: ignore[method-assign]
    own.work = replace(own.work, local=replace(real, lr=0.0))
    found = job.combine(job.drawn("a"), own=own)
    assert found.manifest == alone.manifest
    assert "moved by" in found.problem


def test_who_stops_it_from_another_thread_gets_it_stopped(tmp_path: Path) -> None:
    job = OwnTextJob(tmp_path / "j")
    own = job.own(local=replace(job.local(1), steps=1_000_000, lr=1e-6))
    failure: list[BaseException] = []

    def combine() -> None:
        try:
            job.combine(job.drawn("a"), own=own)
        except StoppedError as error:
            failure.append(error)

    thread = threading.Thread(target=combine)
    thread.start()
    while own._worker is None and thread.is_alive():
        thread.join(0.01)
    own.stop()
    thread.join(60)
    assert len(failure) == 1
    assert own._worker is None
    with pytest.raises(StoppedError):
        job.combine(job.drawn("a"), own=own)
