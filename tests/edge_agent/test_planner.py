"""The ladder: its order, its bytes, and its words."""

from itertools import pairwise
from math import log2

import msgspec
import pytest

from edge_agent.calibration import Calibration, Measured
from edge_agent.planner import choose, ladder, local_ladder, needed_bytes
from wire.messages import JobKnobs
from wire.shape import shape_of

MB = 1_000_000
CALIBRATION = Calibration(measured=Measured(lean_bytes=200 * MB, full_bytes=330 * MB, wide=True))
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
    return ladder(SHAPE, knobs(**changes), limit, CALIBRATION)


def sizes(found, rung):
    return [(line.batch, line.rank, line.seq_len) for line in found if line.rung == rung]


def test_the_knob_furthest_above_its_floor_shrinks_first():
    # Octaves above the floors: batch 2, rank 2, length 1. Ties: batch, rank, length.
    assert sizes(lines(), "streamed") == [
        (16, 16, 256), (8, 16, 256), (8, 8, 256), (4, 8, 256), (4, 4, 256), (4, 4, 128),
    ]  # fmt: skip


def test_a_prompt_device_starts_from_the_full_batch_again():
    assert sizes(lines(), "prompt") == [(16, 0, 256), (8, 0, 256), (4, 0, 256), (4, 0, 128)]


def test_knobs_that_are_no_powers_of_two_end_at_their_floors():
    found = sizes(lines(rank=12, min_rank=5, batch=3, min_batch=1, min_seq_len=256), "streamed")
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
        limited = lines(limit=needed_bytes(wanted.predicted_peak_bytes))
        taken = choose(limited)
        assert taken.fits
        assert taken.predicted_peak_bytes <= wanted.predicted_peak_bytes
        above = limited[: limited.index(taken)]
        assert all(line.predicted_peak_bytes > wanted.predicted_peak_bytes for line in above)


def test_what_is_missing_is_told_in_bytes():
    least = needed_bytes(lines()[-1].predicted_peak_bytes)
    taken = choose(lines(limit=least - 7 * MB))
    assert (taken.role, taken.fits, taken.missing_bytes) == ("none", False, 7 * MB)
    assert taken.reason.startswith("none: 7 MB are missing")


def test_a_line_fits_with_three_percent_to_spare():
    peak = lines()[0].predicted_peak_bytes
    enough = peak * 103 // 100
    assert lines(limit=enough)[0].fits
    tight = lines(limit=enough - 1)[0]
    assert (tight.fits, tight.missing_bytes) == (False, 1)


def test_an_unknown_method_has_no_rung():
    assert choose(lines(method="telepathy")).role == "none"


def test_the_whole_job_is_tried_on_every_lora_rung_before_it_shrinks():
    whole = (16, 16, 256)
    assert sizes(lines(), "resident") == sizes(lines(), "checkpointed") == [whole]
    assert sizes(lines(), "streamed")[0] == whole
    rungs = [line.rung for line in lines() if line.role == "lora"]
    assert list(dict.fromkeys(rungs)) == ["resident", "checkpointed", "streamed"]


def test_a_gguf_file_has_no_resident_rungs():
    packed = msgspec.structs.replace(SHAPE, format="gguf", stored="q4_0", weight_bytes=1)
    found = ladder(packed, knobs(), 10**12, CALIBRATION)
    assert {line.rung for line in found} == {"streamed", "prompt", "infer"}


def test_a_family_without_blocks_here_is_streamed_and_pays_for_transformers():
    other = msgspec.structs.replace(SHAPE, model_type="olmo2")
    found = ladder(other, knobs(), 10**12, CALIBRATION)
    assert {line.rung for line in found} == {"streamed", "prompt", "infer"}
    known = {(x.rung, x.rank, x.batch, x.seq_len): x.predicted_peak_bytes for x in lines()}
    # Importing transformers and its models' code costs 100 MB and more.
    for line in found:
        more = known[line.rung, line.rank, line.batch, line.seq_len] + 100 * MB
        assert line.predicted_peak_bytes > more


def test_cores_are_planned_only_where_they_are_known():
    assert "core" not in {line.rung for line in lines(method="lora")}
    assert "core" in {line.rung for line in lines(method="lora", cores=True)}
    assert "core" in {line.rung for line in local_ladder(SHAPE, knobs(), 10**12, CALIBRATION)}


def test_streamed_rungs_need_less_than_those_that_hold_the_base():
    peaks = {line.rung: line.predicted_peak_bytes for line in reversed(lines())}
    assert peaks["resident"] > peaks["checkpointed"] > peaks["streamed"] > peaks["infer"]


def test_trained_factors_count_sixteen_bytes_a_number():
    # Value, gradient and two moments in float32; 28 matrices of a Llama of four blocks.
    one, two = (
        choose(local_ladder(SHAPE, knobs(rank=r, min_rank=r), 10**12, CALIBRATION)) for r in (8, 16)
    )
    numbers = 8 * 4 * (4 * (128 + 128) + 3 * (128 + 344))
    assert one.rung == two.rung == "resident"
    streamed = [
        next(line for line in local_ladder(SHAPE, knobs(rank=r, min_rank=r), 10**12, CALIBRATION)
             if line.rung == "streamed").predicted_peak_bytes
        for r in (8, 16)
    ]  # fmt: skip
    # Gradients of all blocks but the last are there when the first one needs most.
    assert 12 * numbers <= streamed[1] - streamed[0] <= 16 * numbers


def test_what_travels_follows_from_rank_and_codec():
    found = lines()
    streamed = [line for line in found if line.rung == "streamed"]
    assert streamed[0].bytes_up > streamed[-1].bytes_up > 0
    assert len({line.bytes_down for line in found}) == 1


def test_all_weights_are_held_or_the_device_only_measures():
    found = lines(method="full", prompt_tokens=0)
    assert [(line.role, line.rung) for line in found][:2] == [
        ("full", "resident"), ("full", "checkpointed"),
    ]  # fmt: skip
    # Below the last rung there is no training: so its batch and length shrink, and no rank.
    assert sizes(found, "checkpointed") == [(16, 0, 256), (8, 0, 256), (4, 0, 256), (4, 0, 128)]
    assert {line.role for line in found if line.rung == "infer"} == {"infer"}
    least = min(line.predicted_peak_bytes for line in found if line.role == "full")
    assert choose(lines(least, method="full", prompt_tokens=0)).role == "infer"


def test_a_family_without_a_resident_rung_trains_no_weights():
    other = msgspec.structs.replace(SHAPE, model_type="olmo2")
    found = ladder(other, knobs(method="full", prompt_tokens=0), 10**12, CALIBRATION)
    assert {line.role for line in found} == {"infer"}


def test_training_without_backprop_stands_above_inference_where_the_job_allows_it():
    found = lines(method="lora", cores=True, forward=2, forward_batch=32)
    rungs = list(dict.fromkeys(line.rung for line in found))
    assert rungs[-3:] == ["core", "forward-only", "infer"]
    assert sizes(found, "forward-only") == [(32, 2, 256), (32, 2, 128)]
    assert {line.role for line in found if line.rung == "forward-only"} == {"infer"}
    assert not sizes(lines(method="lora", cores=True), "forward-only")
    assert not sizes(lines(method="prompt", forward=2, forward_batch=32), "forward-only")


def test_training_without_backprop_takes_hardly_more_than_inference():
    found = lines(method="lora", cores=True, forward=2, forward_batch=32)
    (infer,) = [one for one in found if one.rung == "infer" and one.batch == 4]
    forward = next(one for one in found if one.rung == "forward-only")
    # 28 cores of 2 × 2 numbers, six times in four bytes.
    assert forward.predicted_peak_bytes - infer.predicted_peak_bytes == 28 * 4 * 6 * 4
    assert forward.bytes_up == 1006
