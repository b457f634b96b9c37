"""Adapters from folders are what PEFT would make of them."""

from pathlib import Path

import numpy as np
import pytest

from edge_agent.inference.errors import EngineError
from edge_agent.serving.adapter_folder import read_adapter_folder
from wire.peft_folder import write_lora, write_prefix, write_prompt

TENSORS = {
    "model.layers.0.mlp.up_proj.lora_A": np.float32([[1, 2, 3]]),
    "model.layers.0.mlp.up_proj.lora_B": np.float32([[0.5], [-1]]),
}
PROMPT = np.float32([[1, 2], [3, 4], [5, 6]])


def test_factors_and_prompt_of_a_hubs_folder(tmp_path: Path) -> None:
    write_lora(tmp_path, TENSORS, "base")
    alone = read_adapter_folder(tmp_path)
    assert alone.prompt is None
    ((name, factors),) = alone.factors.items()
    assert name == "model.layers.0.mlp.up_proj"
    np.testing.assert_array_equal(factors.a, [[1, 2, 3]])
    np.testing.assert_array_equal(factors.b, [[0.5], [-1]])
    write_prompt(tmp_path / "prompt", PROMPT, "base")
    both = read_adapter_folder(tmp_path)
    np.testing.assert_array_equal(both.prompt, PROMPT)
    assert both.name != alone.name


def test_a_prompt_alone(tmp_path: Path) -> None:
    write_prompt(tmp_path, PROMPT, "base")
    found = read_adapter_folder(tmp_path)
    np.testing.assert_array_equal(found.prompt, PROMPT)
    assert not found.factors


def test_what_no_engine_takes_is_refused(tmp_path: Path) -> None:
    tensors = {f"prefix.0.{kind}": np.ones((1, 2, 3), np.float32) for kind in ("key", "value")}
    write_prefix(tmp_path, tensors, "base")
    with pytest.raises(EngineError, match="PREFIX_TUNING"):
        read_adapter_folder(tmp_path)
    with pytest.raises(EngineError, match="can't be read"):
        read_adapter_folder(tmp_path / "none")
