"""The plan of a device without torch: which file of the base it reads, and what that takes."""

import re

import msgspec
import pytest

from edge_agent.calibration import SUPERVISOR_BYTES, Calibration, Measured
from edge_agent.inference.llama import rows
from edge_agent.inference.llama.engine import PIECE
from edge_agent.planner import choose, ladder, local_ladder
from edge_agent.planning import engine
from wire.derived import USUAL
from wire.messages import JobKnobs, ModelShape

#: A Llama of 160M parameters.
SHAPE = ModelShape(
    model_type="llama", hidden_size=768, layers=12, mlp_size=2048, heads=12, kv_heads=12,
    head_dim=64, vocab_size=32_000, tied_embeddings=False, parameters=134_105_856, weight_bytes=2,
)  # fmt: skip
KNOBS = JobKnobs(
    method="lora+prompt", rank=16, min_rank=4, batch=4, min_batch=1, seq_len=256, min_seq_len=128,
    prompt_tokens=16,
)  # fmt: skip
LLAMA = Calibration(measured=Measured(lean_bytes=57_000_000), runtime="llama.cpp")
MUCH = 10**12


def terms(reason: str) -> dict[str, int]:
    """Return the sum in a reason, in MB, by the names of its terms."""
    listed = reason.partition("): ")[2].partition(" (1 x ")[0]
    pairs = [term.removesuffix(" MB").rpartition(" ") for term in listed.split(" + ")]
    return {name: int(size) for name, _, size in pairs}


def test_each_kind_of_file_is_a_line_the_preferred_one_first() -> None:
    lines = ladder(SHAPE, KNOBS, MUCH, LLAMA, derived=["gguf-q8_0", "onnx-f32", "gguf-q4_0"])
    assert [(line.role, line.rung, line.derived) for line in lines] == [
        ("infer", "infer", "gguf-q8_0"),
        ("infer", "infer", "gguf-q4_0"),
    ]
    assert lines[0].predicted_peak_bytes > lines[1].predicted_peak_bytes
    assert (lines[0].seq_len, lines[0].bytes_up) == (256, 0)
    # What fits only as four bits is taken as four bits.
    between = (lines[0].predicted_peak_bytes + lines[1].predicted_peak_bytes) // 2
    chosen = choose(ladder(SHAPE, KNOBS, between, LLAMA, derived=USUAL))
    assert chosen.derived == "gguf-q4_0"


def test_the_sum_is_told_term_by_term() -> None:
    """By hand: the file without half of its untied embedding at 8.5 bits a weight; keys and values
    of two kinds, 12 layers, 768 wide, 512 cells, two bytes each; factors of rank 16 twice."""
    line = ladder(SHAPE, KNOBS, MUCH, LLAMA, derived=["gguf-q8_0"])[0]
    found = terms(line.reason)
    assert line.reason.startswith("infer (llama.cpp, gguf-q8_0): runtime ")
    assert found["runtime"] == round((SUPERVISOR_BYTES + 57_000_000) / 1e6)
    assert found["file"] == round((134_105_856 - 32_000 * 768 / 2) * 8.5 / 8 / 1e6)
    assert found["keys and values"] == round(2 * 12 * 768 * 512 * 2 / 1e6)
    per_layer = 4 * (768 + 768) + 3 * (768 + 2048)
    assert found["adapter"] == round((2 * 12 * 16 * per_layer * 4 + 16 * 768 * 4) / 1e6)


def test_a_base_that_is_a_gguf_file_is_read_as_it_is() -> None:
    shape = msgspec.structs.replace(SHAPE, format="gguf", stored="q4_0", stored_bytes=80_000_000)
    (line,) = ladder(shape, KNOBS, MUCH, LLAMA, derived=[])
    assert (line.role, line.derived) == ("infer", "")
    assert line.reason.startswith("infer (llama.cpp): runtime ")


@pytest.mark.parametrize(
    ("changes", "derived", "reason"),
    [
        ({"method": "full"}, USUAL, "method full moves all weights, which llama.cpp can't"),
        ({"method": "telepathy"}, USUAL, "method is unknown to this version"),
        ({"method": "prompt", "prefix": True}, USUAL, "the prompt is a prefix in every layer"),
        ({}, ["onnx-f32"], "llama.cpp reads none of the files that the hub makes of this base "),
        ({}, [], r"reads none of the files that the hub makes of this base \(none\)"),
    ],
)
def test_what_an_engine_can_not_have_a_part_in_is_role_none_with_the_reason(
    changes: dict[str, object], derived: list[str], reason: str
) -> None:
    knobs = msgspec.structs.replace(KNOBS, **changes)
    chosen = choose(ladder(SHAPE, knobs, MUCH, LLAMA, derived=derived))
    assert (chosen.role, chosen.fits, chosen.missing_bytes) == ("none", False, 0)
    assert re.search(reason, chosen.reason)


def test_too_little_memory_is_said_in_bytes() -> None:
    chosen = choose(ladder(SHAPE, KNOBS, 90_000_000, LLAMA, derived=USUAL))
    assert chosen.role == "none"
    assert chosen.missing_bytes > 0
    assert "are missing for the least rung: infer (llama.cpp, gguf-q4_0)" in chosen.reason


def test_without_a_hub_the_lines_are_those_that_a_hub_makes_by_default() -> None:
    lines = local_ladder(SHAPE, KNOBS, MUCH, LLAMA)
    assert [line.derived for line in lines] == ["gguf-q8_0", "gguf-q4_0"]
    onnx = msgspec.structs.replace(LLAMA, runtime="onnxruntime")
    assert {line.derived for line in local_ladder(SHAPE, KNOBS, MUCH, onnx)} == {
        one for one in USUAL if one.startswith("onnx-")
    }


def test_where_a_job_lets_it_cores_are_trained_without_backprop() -> None:
    knobs = msgspec.structs.replace(KNOBS, forward=4, forward_batch=8)
    lines = ladder(SHAPE, knobs, MUCH, LLAMA, derived=["gguf-q8_0"])
    assert [(one.role, one.rung, one.rank, one.batch) for one in lines] == [
        ("infer", "forward-only", 4, 8),
        ("infer", "infer", 0, 1),
    ]
    assert lines[0].reason.startswith("forward-only (llama.cpp, gguf-q8_0): runtime ")
    assert lines[0].predicted_peak_bytes > lines[1].predicted_peak_bytes
    assert 0 < lines[0].bytes_up <= 1024
    prompts = msgspec.structs.replace(knobs, method="prompt")
    assert {one.rung for one in ladder(SHAPE, prompts, MUCH, LLAMA, derived=USUAL)} == {"infer"}


def test_training_on_a_smaller_file_comes_before_evaluating_on_the_preferred_one() -> None:
    knobs = msgspec.structs.replace(KNOBS, forward=4, forward_batch=8)
    lines = ladder(SHAPE, knobs, MUCH, LLAMA, derived=USUAL)
    assert [(one.rung, one.derived) for one in lines] == [
        ("forward-only", "gguf-q8_0"),
        ("forward-only", "gguf-q4_0"),
        ("infer", "gguf-q8_0"),
        ("infer", "gguf-q4_0"),
    ]
    # More memory never makes a device stop training.
    limits = sorted(int(1.04 * one.predicted_peak_bytes) for one in lines)
    rungs = [choose(ladder(SHAPE, knobs, limit, LLAMA, derived=USUAL)).rung for limit in limits]
    assert rungs[0] == "infer"
    assert rungs == sorted(rungs, key=["infer", "forward-only"].index)


def test_the_engine_s_own_sizes_are_the_plan_s() -> None:
    assert (engine.PIECE, engine.LOGITS) == (PIECE, rows._LOGITS)
