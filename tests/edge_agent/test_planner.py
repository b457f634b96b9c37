"""The ladder: its order, its bytes, and its words."""

from itertools import pairwise
from math import log2

import pytest

from edge_agent.planner import choose, ladder
from wire.messages import JobKnobs
from wire.shape import shape_of

MB = 1_000_000
RUNTIME = 400 * MB
SHAPE = shape_of(
    {
        "model_type": "llama",
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "intermediate_size": 344,
        "num_attention_heads": 4,
        "vocab_size": 260,
    },
    4,
)


def knobs(**changes):
    settings = {
        "method": "lora+prompt", "rank": 16, "min_rank": 4, "batch": 16, "min_batch": 4,
        "seq_len": 256, "min_seq_len": 128, "prompt_tokens": 8,
    }  # fmt: skip
    return JobKnobs(**{**settings, **changes})


def lines(limit=10**12, **changes):
    return ladder(SHAPE, knobs(**changes), limit, RUNTIME)


def sizes(found, role):
    return [(line.batch, line.rank, line.seq_len) for line in found if line.role == role]


def test_the_knob_furthest_above_its_floor_shrinks_first():
    # Octaves above the floors: batch 2, rank 2, length 1. Ties: batch, rank, length.
    assert sizes(lines(), "lora") == [
        (16, 16, 256), (8, 16, 256), (8, 8, 256), (4, 8, 256), (4, 4, 256), (4, 4, 128),
    ]  # fmt: skip


def test_a_prompt_device_starts_from_the_full_batch_again():
    assert sizes(lines(), "prompt") == [(16, 0, 256), (8, 0, 256), (4, 0, 256), (4, 0, 128)]


def test_knobs_that_are_no_powers_of_two_end_at_their_floors():
    found = sizes(lines(rank=12, min_rank=5, batch=3, min_batch=1, min_seq_len=256), "lora")
    assert found[0] == (3, 12, 256)
    assert found[-1] == (1, 5, 256)
    for before, after in pairwise(found):
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
        assert sum(map(log2, after)) < sum(map(log2, before))


@pytest.mark.parametrize(
    ("method", "roles"),
    [
        ("lora", ["lora", "infer"]),
        ("prompt", ["prompt", "infer"]),
        ("lora+prompt", ["lora", "prompt", "infer"]),
    ],
)
def test_the_method_says_which_rungs_count(method, roles):
    assert list(dict.fromkeys(line.role for line in lines(method=method))) == roles


def test_the_highest_line_that_fits_is_taken():
    found = lines()
    for wanted in found:
        limited = lines(limit=wanted.predicted_peak_bytes)
        taken = choose(limited)
        assert taken.fits
        assert taken.predicted_peak_bytes <= wanted.predicted_peak_bytes
        above = limited[: limited.index(taken)]
        assert all(line.predicted_peak_bytes > wanted.predicted_peak_bytes for line in above)


def test_what_is_missing_is_told_in_bytes():
    least = lines()[-1].predicted_peak_bytes
    taken = choose(lines(limit=least - 7 * MB))
    assert (taken.role, taken.fits, taken.missing_bytes) == ("none", False, 7 * MB)
    assert taken.reason.startswith("none: 7 MB are missing")


def test_an_unknown_method_has_no_rung():
    assert choose(lines(method="telepathy")).role == "none"


def test_the_peak_counted_by_hand():
    """One block of a model with one head; each number from the list of what autograd keeps."""
    shape = shape_of(
        {
            "model_type": "llama", "hidden_size": 1000, "num_hidden_layers": 1,
            "intermediate_size": 3000, "num_attention_heads": 1, "vocab_size": 1024,
        },
        4,
    )  # fmt: skip
    job = knobs(rank=10, min_rank=10, batch=8, min_batch=8, seq_len=500, prompt_tokens=0)
    line = ladder(shape, job, 10**12, RUNTIME)[0]
    weights = 2 * 1024 * 1000 + 4 * 1000**2 + 3 * 3000 * 1000 + 3 * 1000
    factors = 10 * (4 * 2000 + 3 * 4000)
    # Norm inputs and outputs 4·1000; q, k, v and the attention's output 4·1000, one number for the
    # head; gate, SiLU, up and product 4·3000; two norms' scales; 7·10 inside the factors. Then the
    # last norm's input and the states of the head 2·1000, and the MLP's gradients 3·3000.
    token = 4000 + 4000 + 1 + 12000 + 2 + 70 + 2000 + 9000
    logits = 3 * 1024 * 1024  # pieces of 2**20 logits
    numbers = weights + (2 + 1 + 2) * factors + 8 * 500 * token + logits
    assert line.predicted_peak_bytes == RUNTIME + 4 * numbers + 6 * MB


@pytest.mark.parametrize(
    ("role", "batch", "seq_len", "rank", "over_mb"),
    [
        # VmHWM of a worker above its warm RSS, torch 2.13, glibc 2.36, x86-64, one thread.
        ("lora", 16, 256, 16, 198),
        ("lora", 8, 256, 16, 104),
        ("lora", 4, 128, 4, 33),
        ("prompt", 16, 256, 0, 155),
        ("prompt", 8, 256, 0, 81),
        ("prompt", 4, 128, 0, 28),
        ("infer", 4, 256, 0, 15),
    ],
)
def test_predicted_peaks_agree_with_measured_ones(role, batch, seq_len, rank, over_mb):
    sized = {
        "batch": batch, "min_batch": batch, "seq_len": seq_len, "min_seq_len": seq_len,
        "rank": 16, "min_rank": rank or 16,
    }  # fmt: skip
    runtime = 382 * MB
    found = ladder(SHAPE, knobs(**sized), 10**12, runtime)
    (line,) = [line for line in found if (line.role, line.rank, line.batch) == (role, rank, batch)]
    measured = runtime + over_mb * MB
    assert line.predicted_peak_bytes == pytest.approx(measured, rel=0.05)
    assert line.predicted_peak_bytes >= measured  # erring on the safe side


def test_weights_are_counted_with_their_file_while_they_are_read():
    wide = shape_of(
        {
            "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16,
            "intermediate_size": 8192, "num_attention_heads": 32, "vocab_size": 32000,
        },
        2,
    )  # fmt: skip
    line = ladder(wide, knobs(method="lora", batch=1), 10**12, RUNTIME)[-1]
    assert line.role == "infer"
    assert line.predicted_peak_bytes == RUNTIME + 6 * wide.parameters + 6 * MB


def test_the_reason_reads_as_a_sum():
    line = lines(limit=750 * MB)[0]
    assert line.reason.startswith("resident: runtime 400 MB + weights 3 MB + adapter ")
    assert "(16 x 256 tokens, rank 16) = " in line.reason
    assert line.reason.endswith("; limit 750 MB")
