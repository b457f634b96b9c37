from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from hub.export.prompt_file import write_prompt_file
from wire.errors import MalformedError
from wire.peft_folder import write_prefix, write_prompt

DIGEST = "ab" * 32


def test_an_adapter_without_a_prompt_leaves_no_file(tmp_path: Path) -> None:
    assert write_prompt_file(tmp_path, tmp_path, DIGEST) is None
    assert list(tmp_path.iterdir()) == []


def test_a_soft_prompt_is_one_matrix(tmp_path: Path) -> None:
    prompt = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_prompt(tmp_path / "prompt", prompt, "base")
    assert write_prompt_file(tmp_path, tmp_path, DIGEST) == "prompt.safetensors"
    written = load_file(tmp_path / "prompt.safetensors")
    assert set(written) == {"prompt"}
    np.testing.assert_array_equal(written["prompt"], prompt)


def test_a_prefix_is_keys_and_values_of_every_layer(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = [f"prefix.{at}.{kind}" for at in (0, 1) for kind in ("key", "value")]
    prefix = {name: rng.normal(size=(2, 3, 4)).astype(np.float32) for name in names}
    write_prefix(tmp_path / "prompt", prefix, "base")
    assert write_prompt_file(tmp_path, tmp_path, DIGEST) == "prefix.safetensors"
    written = load_file(tmp_path / "prefix.safetensors")
    assert set(written) == set(names)
    for name in names:
        np.testing.assert_array_equal(written[name], prefix[name])


def test_a_prefix_of_other_heads_than_its_configuration_is_refused(tmp_path: Path) -> None:
    prefix = {f"prefix.0.{kind}": np.ones((2, 3, 4), np.float32) for kind in ("key", "value")}
    write_prefix(tmp_path / "prompt", prefix, "base")
    config = tmp_path / "prompt" / "adapter_config.json"
    text = config.read_text()
    config.write_text(text.replace('"num_attention_heads": 2', '"num_attention_heads": 3'))
    with pytest.raises(MalformedError, match="rows of 16 numbers"):
        write_prompt_file(tmp_path, tmp_path, DIGEST)
