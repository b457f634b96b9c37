"""A training state on disk: what was saved comes back, and nothing that is broken does."""

import logging

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from edge_agent.training.checkpoint import Checkpoint, Done

DONE = Done(losses=[2.5, 2.25, 1.0 / 3.0], tokens=77, seconds=4.5)


def tensors(seed=0.0):
    """Three tensors of known numbers, one of them empty."""
    return {
        "value.a": torch.arange(6, dtype=torch.float32).view(2, 3) / 7 + seed,
        "first.a": torch.full((2, 3), 0.1 + seed),
        "value.none": torch.zeros(0, 4),
    }


@pytest.fixture
def file(tmp_path):
    return tmp_path / "training" / "state.safetensors"


@pytest.fixture
def saved(file):
    assert Checkpoint(file, "task", "7").save(tensors(), DONE)
    return file


def load(file, *facts, steps=9):
    found = tensors(seed=1.0)
    done = Checkpoint(file, *(facts or ("task", "7"))).load(found, steps)
    return done, found


def untouched(found):
    return all(torch.equal(value, found[name]) for name, value in tensors(seed=1.0).items())


def test_what_was_saved_comes_back_bit_by_bit(saved):
    done, found = load(saved)
    assert done == DONE
    assert all(torch.equal(value, found[name]) for name, value in tensors().items())
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_others_read_the_file_as_safetensors(saved):
    read = load_file(saved)
    np.testing.assert_array_equal(read["tensor.value.a"], tensors()["value.a"].numpy())
    np.testing.assert_array_equal(read["losses"], np.array(DONE.losses))


def test_a_later_state_replaces_an_earlier_one(saved):
    later = Done(losses=[1.0] * 5, tokens=99, seconds=9.0)
    assert Checkpoint(saved, "task", "7").save(tensors(seed=3.0), later)
    done, found = load(saved)
    assert done == later
    assert torch.equal(found["value.a"], tensors(seed=3.0)["value.a"])


def test_no_file_is_no_state(file, caplog):
    done, found = load(file)
    assert done is None
    assert untouched(found)
    assert caplog.text == ""


@pytest.mark.parametrize("facts", [("task", "8"), ("task",), ("task7",), ("other", "7")])
def test_another_task_s_state_is_of_no_use(saved, facts):
    done, found = load(saved, *facts)
    assert done is None
    assert untouched(found)


def changed(file, **tensors):
    content = load_file(file)
    content |= {name.replace("__", "."): value for name, value in tensors.items()}
    save_file({name: value for name, value in content.items() if value is not None}, file)


def nan(file):
    changed(file, tensor__first__a=np.array([[1, 2, 3], [4, np.nan, 6]], np.float32))


def infinite_loss(file):
    changed(file, losses=np.array([1.0, np.inf]))


def wrong_shape(file):
    changed(file, tensor__first__a=np.ones((3, 2), np.float32))


def wrong_type(file):
    changed(file, tensor__first__a=np.ones((2, 3), np.float16))


def one_too_many(file):
    changed(file, tensor__b=np.ones(1, np.float32))


def one_missing(file):
    changed(file, tensor__first__a=None)


def no_key(file):
    changed(file, key=None)


def too_many_steps(file):
    changed(file, losses=np.ones(10))


def no_steps(file):
    changed(file, losses=np.ones(0))


def negative_tokens(file):
    changed(file, tokens=np.array([-1]))


def cut_off(file):
    file.write_bytes(file.read_bytes()[:-5])


def cut_off_in_the_header(file):
    file.write_bytes(file.read_bytes()[:20])


def empty(file):
    file.write_bytes(b"")


def zeros(file):
    """What some file systems leave after a loss of power."""
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize(
    "broken",
    [
        nan, infinite_loss, wrong_shape, wrong_type, one_too_many, one_missing, no_key,
        too_many_steps, no_steps, negative_tokens, cut_off, cut_off_in_the_header, empty, zeros,
    ],
)  # fmt: skip
def test_a_broken_state_is_passed_over_with_a_word(saved, broken, caplog):
    broken(saved)
    done, found = load(saved)
    assert done is None
    assert untouched(found)
    assert "passed over" in caplog.text


def test_an_unbroken_one_passes_the_same_way_of_writing(saved):
    """`changed` itself breaks nothing: the tests above fail for their own reasons."""
    changed(saved)
    assert load(saved)[0] == DONE


def test_a_disk_that_takes_nothing_costs_the_state_only(tmp_path, caplog):
    (tmp_path / "training").write_text("a file where the folder should be")
    checkpoint = Checkpoint(tmp_path / "training" / "state.safetensors", "task")
    assert not checkpoint.save(tensors(), DONE)
    assert "can't be saved" in caplog.text


def test_a_state_that_fails_half_way_leaves_the_earlier_one(saved, monkeypatch):
    def full(_file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wire.safetensors_writer._to_disk", full)
    assert not Checkpoint(saved, "task", "7").save(tensors(seed=3.0), DONE)
    assert load(saved)[0] == DONE
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_it_is_due_after_a_minute_or_later_where_saving_takes_long(file, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    now = [100.0]
    monkeypatch.setattr("edge_agent.training.checkpoint.time.monotonic", lambda: now[0])
    checkpoint = Checkpoint(file, "task")
    assert not checkpoint.due()
    now[0] += 59.0
    assert not checkpoint.due()
    now[0] += 1.0
    assert checkpoint.due()

    def slow(_file):
        now[0] += 10.0  # a worn card

    monkeypatch.setattr("wire.safetensors_writer._to_disk", slow)
    assert checkpoint.save(tensors(), DONE)
    now[0] += 199.0
    assert not checkpoint.due()
    now[0] += 1.0
    assert checkpoint.due()
