"""What the planner counts is what the engine keeps: torch's own hooks tell what that is."""

import json

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from edge_agent.planning import attention as planned_attention
from edge_agent.planning import streamed
from edge_agent.planning.counts import Case, Sizes
from edge_agent.training import evaluate
from edge_agent.training.blockwise import attention, head, mapped_weights
from edge_agent.training.blockwise.base import BlockwiseBase
from edge_agent.training.contract import Trained
from edge_agent.training.start import FreshStart
from tests.edge_agent.training.blockwise.families import save_model
from wire.messages import JobKnobs
from wire.shape import shape_of

from . import small_llama

ROWS, TOKENS, RANK = 2, 24, 4


def test_the_engines_constants_are_the_planners():
    assert streamed.PIECE_LOGITS == head.PIECE_LOGITS
    assert streamed.LEAST_ROWS == head.LEAST_ROWS
    assert streamed.PIECE_BYTES == mapped_weights.PIECE_BYTES
    assert planned_attention.MOST_PAIRS == attention.MOST_PAIRS
    assert planned_attention.SCORES == attention.SCORES
    assert streamed.EVALUATED_ROWS == evaluate.MAX_ROWS


def kept_bytes(base, placed):
    """Return the bytes that a block keeps for its backward pass, each memory counted once."""
    kept = {}
    trained = {value.data_ptr() for value in placed.trained.values()}

    def pack(tensor):
        if tensor.data_ptr() not in trained:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that none is reused
        return tensor

    x = torch.randn(ROWS * TOKENS, base.hidden_size, requires_grad=True)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = base._blocks[1](x, ROWS, needed=False)
    kept.pop(x.untyped_storage().data_ptr(), None)
    assert outputs[0].requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "qwen3", "phi3"])
@pytest.mark.parametrize("rung", ["streamed", "prompt"])
def test_a_block_keeps_what_is_planned(tmp_path, family, rung):
    save_model(family, tmp_path)
    base = BlockwiseBase(tmp_path, torch.float32)
    start = FreshStart(base.targets, RANK, 1, base.hidden_size, 1)
    what = Trained(rank=RANK) if rung == "streamed" else Trained(prompt=True)
    found = kept_bytes(base, base.place(start, what))
    shape = shape_of(json.loads((tmp_path / "config.json").read_text()), 4)
    knobs = JobKnobs(
        method="lora", rank=RANK, min_rank=RANK, batch=ROWS, min_batch=ROWS, seq_len=TOKENS,
        min_seq_len=TOKENS,
    )  # fmt: skip
    case = Case(shape, knobs, Sizes(RANK, ROWS, TOKENS), 4)
    planned = streamed._saved(case, rung) * case.positions * 4
    # Not counted: one number a row of norms and attention, the rotary table, masks of windows.
    assert planned * 0.95 <= found <= planned * 1.3


def test_a_prompt_keeps_less_than_factors(tmp_path):
    save_model("llama", tmp_path)
    base = BlockwiseBase(tmp_path, torch.float32)
    start = FreshStart(base.targets, RANK, 1, base.hidden_size, 1)
    lora = kept_bytes(base, base.place(start, Trained(rank=RANK)))
    prompt = kept_bytes(base, base.place(start, Trained(prompt=True)))
    # Both norms' outputs (2 x 32) and the MLP's product (48) of the shape in families.py.
    assert lora - prompt == ROWS * TOKENS * (2 * 32 + 48) * 4


@pytest.mark.parametrize(
    ("knobs", "moments"),
    [
        ({}, 2),
        ({"optimizer": "sgd", "momentum": 0.9}, 1),
        ({"optimizer": "sgd"}, 0),
        ({"kept": 1}, 3),
        ({"optimizer": "sgd", "kept": 1}, 1),
    ],
)
def test_the_adapter_is_held_with_what_the_optimiser_keeps(knobs, moments):
    # Two of four ranks are trained, 704 numbers each in both blocks; the rest is in bfloat16.
    expected = 704 * 2 + 704 * (1 + moments) * 4 + 8 * 4
    assert streamed.streamed_terms(small_llama.case(**knobs), "streamed")["adapter"] == expected


def test_a_batch_in_parts_takes_one_parts_memory_and_the_gradients_of_those_before():
    whole = streamed.streamed_terms(small_llama.case(batch=8), "streamed")
    parts = streamed.streamed_terms(small_llama.case(batch=16, accumulate=2), "streamed")
    assert parts["heap"] == whole["heap"]
    assert parts["gradients"] == 704 * 2  # of every factor, in bfloat16
    # Where all blocks' inputs are there, the gradients of all blocks now are, too.
    assert 0 <= sum(parts.values()) - sum(whole.values()) <= 704 * 2


def test_a_batch_in_parts_passes_more_often():
    assert small_llama.case(batch=16, accumulate=2).passes == 2
    assert small_llama.case(batch=5, accumulate=4).passes == 3  # 2, 2 and 1
    assert small_llama.case(batch=5).passes == 1


def test_an_adversary_holds_the_embeddings_twice_more_and_the_gradients_throughout():
    found = streamed.streamed_terms(small_llama.case(adversarial=True), "streamed")
    # 18 positions of width 8 in bfloat16.
    assert found["moved"] == 2 * 18 * 8 * 2
    assert found["gradients"] == 704 * 2
    assert "moved" not in streamed.streamed_terms(small_llama.case(adversarial=True), "infer")


def test_a_factor_that_is_not_trained_needs_no_state():
    # Rank 2 of 4 in bfloat16: the rest's 704 numbers and A's 320 in two bytes, B's 384 with two
    # moments in four each, a prompt of 8 in four.
    found = streamed.streamed_terms(small_llama.case(rank=2, trains="b"), "streamed")["adapter"]
    assert found == 2 * 704 + 2 * 320 + 12 * 384 + 4 * 8
    both = streamed.streamed_terms(small_llama.case(rank=2), "streamed")["adapter"]
    assert both == 2 * 704 + 12 * 704 + 4 * 8
