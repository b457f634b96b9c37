"""The ladder of a local task: the role's own lines, and cores, for no hub has to combine them."""

from pathlib import Path

import pytest

from edge_agent.errors import ModelError
from edge_agent.train_command import TrainOptions
from edge_agent.train_plan import training_ladder
from wire.messages import JobKnobs

#: No worker can start in it, so that none is measured.
LIMIT = 100_000_000


def options(model: Path, state: Path, role: str) -> TrainOptions:
    return TrainOptions(
        model=str(model),
        data=[],
        out="adapter",
        state=str(state),
        role="prompt" if role == "prompt" else "lora",
        knobs=JobKnobs(
            method=role,
            rank=8,
            min_rank=4,
            batch=1,
            min_batch=1,
            seq_len=64,
            min_seq_len=64,
            prompt_tokens=4 if role == "prompt" else 0,
        ),
        steps=1,
        lr=1e-3,
        seed=0,
        threads=1,
    )


def test_lora_has_every_rung_that_trains_factors_or_cores(llama: Path, tmp_path: Path) -> None:
    lines = training_ladder(options(llama, tmp_path, "lora"), LIMIT)
    assert list(dict.fromkeys(line.rung for line in lines)) == [
        "resident", "checkpointed", "streamed", "core",
    ]  # fmt: skip
    assert {line.role for line in lines} == {"lora"}
    assert {line.rank for line in lines if line.rung == "streamed"} == {8, 4}


def test_a_prompt_has_its_own_rung_only(llama: Path, tmp_path: Path) -> None:
    lines = training_ladder(options(llama, tmp_path, "prompt"), LIMIT)
    assert [line.rung for line in lines] == ["prompt"]


def test_what_a_hub_would_have_published_is_not_counted(llama: Path, tmp_path: Path) -> None:
    lines = training_ladder(options(llama, tmp_path, "lora"), LIMIT)
    whole, half = (line for line in lines if line.rung == "streamed")
    assert half.predicted_peak_bytes < whole.predicted_peak_bytes


def test_a_model_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": 7}')
    with pytest.raises(ModelError, match=str(tmp_path)):
        training_ladder(options(tmp_path, tmp_path, "lora"), LIMIT)
