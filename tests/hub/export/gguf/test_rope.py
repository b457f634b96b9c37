"""Rotary embeddings in llama.cpp's words; expected numbers by hand from the papers' formulas."""

import math
from typing import Any

import numpy as np
import pytest

from hub.export.gguf.rope import rope_of
from wire.errors import MalformedError


def config(kind: str, **parameters: Any) -> dict[str, Any]:
    given = {"rope_type": kind, "rope_theta": 10000.0, **parameters}
    return {"model_type": "llama", "max_position_embeddings": 128, "rope_parameters": given}


def test_plain_and_linear() -> None:
    plain = {"rope.dimension_count": 8, "rope.freq_base": 10000.0}
    assert rope_of(config("default"), "llama", 8) == (plain, {})
    scaled = {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0}
    assert rope_of(config("linear", factor=2), "gemma2", 8) == (plain | scaled, {})


def test_older_configurations_say_the_same() -> None:
    older = {
        "model_type": "llama",
        "max_position_embeddings": 128,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "linear", "factor": 2.0},
    }
    assert rope_of(older, "llama", 8) == rope_of(config("linear", factor=2.0), "llama", 8)


def test_yarns_attention_factor_is_told_as_a_share_of_its_own_growth() -> None:
    keys, _ = rope_of(config("yarn", factor=4, attention_factor=1.5), "qwen2", 8)
    assert keys["rope.scaling.attn_factor"] == pytest.approx(1.5 / (0.1 * math.log(4) + 1))
    keys, _ = rope_of(config("yarn", factor=4, mscale=2, mscale_all_dim=1), "qwen2", 8)
    growth = 0.1 * math.log(4) + 1
    assert keys["rope.scaling.attn_factor"] == pytest.approx(
        (0.2 * math.log(4) + 1) / growth / growth
    )
    assert "rope.scaling.attn_factor" not in rope_of(config("yarn", factor=4), "qwen2", 8)[0]


def test_llama_3_divides_slow_turns_and_leaves_fast_ones() -> None:
    kind = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    _, tensors = rope_of(config("llama3", **kind, original_max_position_embeddings=64), "llama", 4)
    # Full turns take 2π and 200π positions: below 64 / 4, and above 64.
    np.testing.assert_array_equal(tensors["rope_freqs.weight"], np.float32([1, 8]))


@pytest.mark.parametrize(
    ("changes", "architecture", "words"),
    [
        ({"kind": "dynamic", "factor": 2.0}, "llama", "rope_type is 'dynamic'"),
        ({"kind": "llama3", "factor": 2.0}, "qwen2", "rope_type is 'llama3'; llama.cpp has"),
        ({"kind": "linear"}, "llama", "factor is None"),
        ({"kind": "linear", "factor": "two"}, "llama", "factor is 'two'"),
        ({"kind": "yarn", "factor": 2.0, "truncate": False}, "llama", "truncate is false"),
        ({"kind": "default", "partial_rotary_factor": 0.5}, "llama", "turns whole heads"),
        ({"kind": "longrope", "short_factor": [1.0]}, "phi3", "list of 4 numbers"),
    ],
)
def test_what_llama_cpp_has_not_is_refused(
    changes: dict[str, Any], architecture: str, words: str
) -> None:
    with pytest.raises(MalformedError, match=words.replace(".", r"\.")):
        rope_of(config(**changes), architecture, 8)
