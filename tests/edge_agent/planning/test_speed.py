"""A step's arithmetic, bytes and seconds for a small Llama, by hand; see `small_llama`."""

import pytest

from edge_agent.calibration import Measured, Speed
from edge_agent.planning.speed import expanded_numbers, made_bytes, step_flops, step_seconds

from .small_llama import PACKED, case

RUNGS = ("resident", "checkpointed", "streamed", "core", "prompt", "infer")
MEASURED = Measured(
    lean_bytes=200_000_000,
    speeds={
        "bf16": Speed(flops_per_s=4e6, made_bytes_per_s=1e6),
        "f32": Speed(flops_per_s=2e6, made_bytes_per_s=1e6),
    },
    expand_per_s={"q4_0": 5e4, "q8_0": 1e5},
)

# Of the line (rank 2 of 4, batch 3, 5 tokens and one of the soft prompt): 18 positions, 12 of them
# predicted. The adapter has 4 · 176 = 704 numbers in a block, 352 of them trained.
#
# Multiplications a position and block, matrices + factors in place + factors trained + attention:
#   resident       2 · 960 + 2 · 704 + 2 · 352 + 6 · 16 · 3.5 = 1,920 + 1,408 + 704 + 336 = 4,368
#   checkpointed   3 · 960 + 3 · 704 + 2 · 352 + 6 · 16 · 4.5 = 2,880 + 2,112 + 704 + 432 = 6,128
#   streamed       as checkpointed, the last matrix (8 · 24 = 192) but twice               = 5,936
#   core, prompt   as streamed, without factors that are trained: less 704                 = 5,232
#   infer          960 + 704 + 6 · 16 = 1,760
# A position's own and earlier ones are half of all pairs: 6 / 2 keys of width 16, once for scores
# and once for what is gathered.
#
# Two blocks, 18 positions; the head's 32 · 8 = 256 for 12 predictions, forward and of inputs:
#   36 · 4,368 + 12 · 512 = 163,392, 36 · 6,128 + 6,144 = 226,752, 36 · 5,936 + 6,144 = 219,840,
#   36 · 5,232 + 6,144 = 194,496, and for inference 36 · 1,760 + 12 · 256 = 66,432.
# Two operations each.
FLOPS = {
    "resident": 326_784,
    "checkpointed": 453_504,
    "streamed": 439_680,
    "core": 388_992,
    "prompt": 388_992,
    "infer": 132_864,
}


@pytest.mark.parametrize("rung", RUNGS)
def test_a_steps_operations_by_hand(rung):
    assert step_flops(case(), rung) == FLOPS[rung]


# Numbers a position and block. Forward: 6 H = 48, queries, what they gather, and keys and values
# for every head, 4 · 16 = 64, keys and values as they are projected 16, MLP 3 · 24 = 72: 200.
# Backward: 8 H = 64, 5 Q = 80, 4 M = 96: 240. Times 36 positions of both blocks, two bytes each.
@pytest.mark.parametrize(
    ("rung", "numbers"),
    [
        ("resident", 440),
        ("checkpointed", 640),
        ("streamed", 640),
        ("core", 640),
        ("prompt", 640),
        ("infer", 200),
    ],
)
def test_the_bytes_made_anew_by_hand(rung, numbers):
    assert made_bytes(case(), rung) == numbers * 36 * 2
    assert made_bytes(case(compute_bytes=4), rung) == numbers * 36 * 4


def test_the_weights_to_expand_by_hand():
    # Two blocks of 960 three times, and the head's 256 once.
    assert expanded_numbers(case(shape=PACKED), "streamed") == 3 * 1920 + 256
    assert expanded_numbers(case(shape=PACKED), "infer") == 1920 + 256


def test_the_seconds_by_hand():
    # 439,680 / 4e6 + 46,080 / 1e6 = 0.10992 + 0.04608.
    assert step_seconds(case(), "streamed", MEASURED) == pytest.approx(0.156)
    # Half as fast with twice the bytes: 0.21984 + 0.09216.
    assert step_seconds(case(compute_bytes=4), "streamed", MEASURED) == pytest.approx(0.312)
    # 6,016 / 5e4 = 0.12032 on top.
    assert step_seconds(case(shape=PACKED), "streamed", MEASURED) == pytest.approx(0.27632)


def test_what_was_not_measured_is_not_guessed():
    only_f32 = Measured(lean_bytes=1, speeds={"f32": MEASURED.speeds["f32"]})
    assert step_seconds(case(), "streamed", None) is None
    assert step_seconds(case(), "streamed", only_f32) is None
    assert step_seconds(case(compute_bytes=4), "streamed", only_f32) is not None


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"seq_len": 5}, {"seq_len": 6}),
        ({"batch": 3}, {"batch": 4}),
        ({"prompt_tokens": 1}, {"prompt_tokens": 2}),
        ({"rank": 2, "local": True}, {"rank": 4, "local": True}),
    ],
    ids=["tokens", "rows", "prompt", "rank"],
)
def test_more_of_anything_takes_longer(rung, less, more):
    shorter = step_seconds(case(**less), rung, MEASURED)
    assert shorter < step_seconds(case(**more), rung, MEASURED)


@pytest.mark.parametrize("rung", ["streamed", "core", "prompt", "infer"])
def test_packed_weights_take_longer_than_plain_ones(rung):
    plain = step_seconds(case(), rung, MEASURED)
    assert step_seconds(case(shape=PACKED), rung, MEASURED) > plain


def test_going_through_the_blocks_twice_takes_longer_than_keeping_all():
    seconds = [step_seconds(case(), rung, MEASURED) for rung in ("infer", "resident", "streamed")]
    assert seconds == sorted(set(seconds))


def test_a_batch_in_parts_takes_each_parts_time():
    whole = step_seconds(case(batch=3), "streamed", MEASURED)
    assert step_seconds(case(batch=6, accumulate=2), "streamed", MEASURED) == pytest.approx(
        2 * whole
    )
