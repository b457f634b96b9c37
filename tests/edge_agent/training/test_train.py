"""Training: it learns, the seed fixes it, it stops and goes on, and it says when it diverges."""

import numpy as np
import pytest
import torch

from edge_agent.errors import DataError
from edge_agent.training.bases import open_base
from edge_agent.training.blockwise.base import BlockwisePlaced
from edge_agent.training.checkpoint import Checkpoint
from edge_agent.training.contract import Trained
from edge_agent.training.control import Control
from edge_agent.training.data import Example
from edge_agent.training.errors import DivergedError, PausedError
from edge_agent.training.start import PackedStart
from edge_agent.training.train import train
from wire.codecs import by_name
from wire.messages import Adversarial, LocalWork
from wire.tensors import pack

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

EXAMPLES = [Example(None, "the same words again and again, ") for _ in range(20)]
ALL = Trained(rank=4)


def work(**changes):
    settings = {
        "steps": 12, "batch": 4, "seq_len": 24, "optimizer": "adamw", "lr": 0.02, "seed": 3,
    }  # fmt: skip
    return LocalWork(**{**settings, **changes})


@pytest.fixture
def one_thread():
    """Sums of several threads may differ in their last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(llama, make_adapter):
    saved = make_adapter(llama, rank=4, tokens=3)
    bases = {rung: open_base(llama, rung) for rung in ("resident", "streamed")}

    def run(local, trained=ALL, examples=EXAMPLES, rung="streamed", decay=0.0, **options):
        base = bases[rung]
        placed = base.place(PackedStart(saved.manifest, saved.parts), trained)
        steps = []
        rows = base.encoder.rows(examples, local.seq_len)
        if "control" in options:
            options["control"] = Control(placed.trained, options["control"], None)
        metrics = train(
            placed, rows, local, decay, lambda step, loss: steps.append((step, loss)), **options
        )
        return metrics, steps, placed

    yield run
    for base in bases.values():
        base.clear()
        base.close()


@pytest.mark.parametrize("rung", ["resident", "streamed"])
@pytest.mark.parametrize("trained", [ALL, Trained(rank=2), Trained(prompt=True)])
def test_the_loss_falls_and_every_step_is_told(run, trained, rung):
    metrics, steps, _ = run(work(), trained, rung=rung)
    assert metrics.loss_last < metrics.loss_first - 0.1
    assert [step for step, _ in steps] == list(range(1, 13))
    assert (steps[0][1], steps[-1][1]) == (metrics.loss_first, metrics.loss_last)
    assert metrics.steps == 12


@pytest.mark.parametrize("rung", ["resident", "streamed"])
@pytest.mark.parametrize("trained", [ALL, Trained(prompt=True)])
def test_a_proximal_term_holds_the_device_near_its_start(run, trained, rung):
    free, held = (
        sum(
            float((value**2).sum()) for value in run(local, trained, rung=rung)[2].update().values()
        )
        for local in (work(), work(proximal_mu=100.0))
    )
    assert 0 < held < free / 4


def test_sgd_steps_along_the_gradient_and_its_correction(run, tmp_path):
    """One step of rate 0.5: the update differs by -0.5 (c - c_i), and by nothing else."""
    local = work(steps=1, optimizer="sgd", lr=0.5, clip=None, warmup_steps=0)
    prompt = Trained(prompt=True)
    plain = run(local, prompt)[2]
    shape = plain.update()["prompt"].shape
    file = tmp_path / "common"
    file.write_bytes(pack({"prompt": np.full(shape, 0.25, np.float32)}, by_name("raw"), 0))
    corrected = run(local, prompt, control=file)[2].update()["prompt"]
    np.testing.assert_allclose(corrected, plain.update()["prompt"] - 0.125, atol=1e-6)


def test_a_proximal_term_survives_a_pause(run, tmp_path, one_thread):
    """The start is the adapter's, not where training goes on."""
    local = work(steps=6, proximal_mu=3.0)
    expected = run(local)[2].update()
    asked = iter([False, False, False, True])
    state = Checkpoint(tmp_path / "state.safetensors", "task")
    with pytest.raises(PausedError):
        run(local, checkpoint=state, pause_asked=lambda: next(asked))
    update = run(local, checkpoint=state)[2].update()
    assert all((expected[name] == update[name]).all() for name in expected)


def test_tokens_are_those_a_loss_was_taken_on(run):
    # 20 texts of 32 bytes and an end mark are 660 tokens: 27 rows of 24, of which 23 are predicted.
    # Two steps of three rows hold full rows only, or the last one with 12 tokens.
    metrics, _, _ = run(work(steps=2, batch=3))
    assert metrics.tokens in (2 * 3 * 23, 2 * 3 * 23 - 12)


def test_the_seed_fixes_the_update(run):
    first, second = (run(work())[2].update() for _ in range(2))
    other = run(work(seed=4))[2].update()
    assert all((first[name] == second[name]).all() for name in first)
    assert any((first[name] != other[name]).any() for name in first)


@pytest.mark.parametrize("rung", ["resident", "streamed"])
def test_training_that_was_paused_ends_with_the_very_same_bits(run, rung, tmp_path, one_thread):
    """Three rows of unequal length, so that another order of the data would show."""
    examples = [Example("why?", "the river " * n) for n in (1, 2, 3)] + EXAMPLES
    local = work(steps=7, batch=2)
    whole, told, placed = run(local, examples=examples, rung=rung, decay=0.01)
    expected = placed.update()

    taken_up = []
    for part in range(3):  # two steps, one of them alone; then the rest
        asked = iter([False, False, True] if part != 1 else [False, True])

        def pause(asked=asked, part=part):
            return part < 2 and next(asked)

        state = Checkpoint(tmp_path / "state.safetensors", "task")
        options = {"checkpoint": state, "pause_asked": pause}
        try:
            again, steps, placed = run(local, examples=examples, rung=rung, decay=0.01, **options)
        except PausedError as paused:
            taken_up.append(paused.step)
    assert taken_up == [2, 3]
    assert [step for step, _ in steps] == [3, 4, 5, 6, 7]
    assert steps == told[2:]
    assert (again.steps, again.tokens) == (whole.steps, whole.tokens)
    assert (again.loss_first, again.loss_last) == (whole.loss_first, whole.loss_last)
    update = placed.update()
    assert expected.keys() == update.keys()
    assert all((expected[name] == update[name]).all() for name in expected)


def test_a_state_is_kept_now_and_then_and_survives_whatever_ends_the_process(
    run, tmp_path, monkeypatch, one_thread
):
    local = work(steps=5)
    expected = run(local)[2].update()
    file = tmp_path / "state.safetensors"
    monkeypatch.setattr("edge_agent.training.checkpoint.INTERVAL_S", 0.0)
    monkeypatch.setattr("edge_agent.training.checkpoint._LEAST_PAUSES", 0)

    class Killed(BaseException):
        pass

    def killed(after):
        seen = []

        def pause_asked():  # looked at after each step, and once before the first
            seen.append(1)
            if len(seen) > after + 1:
                raise Killed
            return False

        return pause_asked

    with pytest.raises(Killed):  # in the third step, before its state could be saved
        run(local, checkpoint=Checkpoint(file, "task"), pause_asked=killed(2))
    _, steps, placed = run(local, checkpoint=Checkpoint(file, "task"))
    assert [step for step, _ in steps] == [2, 3, 4, 5]
    update = placed.update()
    assert all((expected[name] == update[name]).all() for name in expected)


@pytest.mark.parametrize("rung", ["resident", "streamed"])
def test_a_batch_in_parts_is_the_same_step(run, rung):
    """Rows of unequal length, so that a mean of means would differ from the mean."""
    examples = [Example("why?", "the river " * n) for n in (1, 2, 3)] + EXAMPLES
    whole, parts = (
        run(work(steps=3, batch=5, accumulate=n), examples=examples, rung=rung) for n in (1, 3)
    )
    assert parts[0].tokens == whole[0].tokens
    assert parts[0].loss_last == pytest.approx(whole[0].loss_last, abs=1e-3)
    first, second = whole[2].update(), parts[2].update()
    assert all(abs(first[name] - second[name]).max() < 1e-3 for name in first)


def test_parts_are_no_larger_than_they_may_be(run, monkeypatch):
    seen = []
    placed_loss = BlockwisePlaced.backward_loss

    def backward_loss(self, ids, labels, *rest):
        seen.append(len(ids))
        return placed_loss(self, ids, labels, *rest)

    monkeypatch.setattr(BlockwisePlaced, "backward_loss", backward_loss)
    run(work(steps=2, batch=5, accumulate=2))
    assert seen == [3, 2, 3, 2]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_learns_and_goes_on_where_it_was_paused(run, tmp_path, one_thread, momentum):
    local = work(steps=6, optimizer="sgd", lr=0.5, momentum=momentum, schedule="cosine", clip=None)
    metrics, told, placed = run(local)
    expected = placed.update()
    assert metrics.loss_last < metrics.loss_first - 0.05
    state = Checkpoint(tmp_path / "state.safetensors", "task")
    asked = iter([False, False, False, True])
    with pytest.raises(PausedError):
        run(local, checkpoint=state, pause_asked=lambda: next(asked))
    _, steps, placed = run(local, checkpoint=state)
    assert steps == told[2:]
    update = placed.update()
    assert all((expected[name] == update[name]).all() for name in expected)


def test_the_state_of_one_optimiser_is_not_anothers(run, tmp_path):
    state = Checkpoint(tmp_path / "state.safetensors", "task")
    asked = iter([False, False, True])
    with pytest.raises(PausedError):
        run(work(), checkpoint=state, pause_asked=lambda: next(asked))
    _, steps, _ = run(work(optimizer="sgd", momentum=0.9), checkpoint=state)
    assert steps[0][0] == 1  # begun anew: what is in the file is passed over


@pytest.mark.parametrize("rung", ["resident", "streamed"])
def test_an_adversary_changes_the_steps_and_still_it_learns(run, rung):
    adversary = Adversarial(kind="fgm", epsilon=0.5)
    metrics, _, placed = run(work(adversarial=adversary, batch=2, accumulate=2), rung=rung)
    plain, _, other = run(work(batch=2), rung=rung)
    assert metrics.loss_last < metrics.loss_first - 0.1
    assert metrics.loss_first == pytest.approx(plain.loss_first, rel=1e-4)  # told without it
    assert metrics.tokens == plain.tokens
    name, update = next(iter(placed.update().items()))
    assert (update != other.update()[name]).any()


def test_a_falling_rate_moves_less_in_the_end(run):
    """With SGD on all but the same gradients, a line halves the way of a constant rate."""
    settings = {"steps": 4, "optimizer": "sgd", "lr": 1e-6, "warmup_steps": 0, "clip": None}
    constant, linear = (
        run(work(schedule=name, **settings), Trained(prompt=True))[2].update()["prompt"]
        for name in ("constant", "linear")
    )
    # 4 rates of 1, against 1 + 3/4 + 2/4 + 1/4 = 2.5.
    ratio = float((constant * linear).sum() / (constant * constant).sum())
    assert ratio == pytest.approx(2.5 / 4, rel=0.15)


def test_a_pause_that_was_asked_for_before_the_first_step_needs_no_state(run, tmp_path):
    file = tmp_path / "state.safetensors"
    with pytest.raises(PausedError) as paused:
        run(work(), checkpoint=Checkpoint(file, "task"), pause_asked=lambda: True)
    assert paused.value.step == 0
    assert not file.exists()


def test_nothing_is_paused_after_the_last_step(run, tmp_path):
    asked = iter([False])
    metrics, _, _ = run(work(steps=1), pause_asked=lambda: next(asked, True))
    assert metrics.steps == 1


def test_a_state_goes_on_on_another_rung(run, tmp_path):
    """A killed worker's task is taken again one rung lower: the same numbers but for rounding."""
    local = work(steps=6)
    whole = run(local, rung="streamed")[2].update()
    asked = iter([False, False, False, True])
    state = Checkpoint(tmp_path / "state.safetensors", "task")
    with pytest.raises(PausedError):
        run(local, rung="resident", checkpoint=state, pause_asked=lambda: next(asked))
    _, steps, placed = run(local, checkpoint=state)
    assert steps[0][0] == 3
    for name, value in placed.update().items():
        assert abs(value - whole[name]).max() < 1e-3


def test_the_base_itself_is_not_touched(run, llama):
    _, _, placed = run(work(), rung="resident")
    before = dict(open_base(llama, "resident").model.named_parameters())
    after = {
        name.replace(".base_layer", ""): value
        for name, value in placed.model.named_parameters()
        if "lora_" not in name
    }
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_loss_that_is_no_number_ends_the_task(run):
    with pytest.raises(DivergedError, match=r"the learning rate is 1e\+30"):
        run(work(lr=1e30))


def test_no_rows_are_refused(run):
    with pytest.raises(DataError, match="no row"):
        run(work(), examples=[])
