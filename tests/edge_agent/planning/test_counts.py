"""Counts of a small Llama, by hand; see `small_llama`."""

import msgspec
import pytest

from edge_agent.planning.counts import stored_bytes, stored_per_parameter
from wire.shape import shape_of, target_modules

from .small_llama import CONFIG, PACKED, PARAMETERS, SHAPE, case


def test_the_shape_that_is_counted_is_the_configs():
    assert shape_of(CONFIG, 2) == msgspec.structs.replace(SHAPE, stored="")
    linears = list(target_modules(CONFIG).values())
    assert linears == case().linears * 2


def test_heads_and_keys_have_their_widths():
    assert case().queries == 4 * 4
    assert case().keys == 2 * 4


def test_the_matrices_of_a_block_and_their_factors():
    found = case()
    assert found.linears == [(16, 8), (8, 8), (8, 8), (8, 16), (24, 8), (24, 8), (8, 24)]
    assert found.block_parameters == 960
    assert found.factors(1) == 2 * 176  # two blocks
    assert found.factors(5) == 1760
    assert found.factors(0) == 0


@pytest.mark.parametrize(
    ("trains", "each"),
    # Outputs are 16 + 8 + 8 + 8 + 24 + 24 + 8 = 96 in each of two blocks, inputs 80.
    [("both", 352), ("b", 192), ("a", 160), ("either", 192)],
)
def test_a_round_may_train_one_factor_alone(trains, each):
    found = case(trains=trains)
    assert found.trained_factors(3) == 3 * each
    assert found.factors(3) == 3 * 352


def test_positions_count_the_soft_prompt_and_predictions_do_not():
    found = case(batch=3, seq_len=5, prompt_tokens=2)
    assert found.row == 7
    assert found.positions == 21
    assert found.predicted == 3 * 4  # nothing comes before a row's first token


@pytest.mark.parametrize(
    ("settings", "rank"),
    [
        # What the hub has published is in place whole, however little of it is trained here.
        ({"rank": 2}, 4),
        ({"rank": 2, "local": True}, 2),
        ({"rank": 0}, 4),
        ({"method": "prompt"}, 0),
        ({"method": "prompt", "local": True}, 0),
    ],
)
def test_the_adapters_rank_is_the_jobs_unless_it_is_ones_own(settings, rank):
    assert case(**{"method": "lora", **settings}).adapter_rank == rank


def test_the_files_bytes_are_told_or_follow_from_the_type():
    assert stored_bytes(SHAPE) == 2 * PARAMETERS
    assert stored_per_parameter(SHAPE) == 2
    # 2,472 / 32 = 77.25 blocks of 18 bytes.
    assert stored_bytes(PACKED) == 1390
    assert stored_per_parameter(PACKED) == pytest.approx(18 / 32, rel=1e-3)
