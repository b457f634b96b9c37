"""Stretched rotary embeddings, against transformers' own formulas."""

import pytest
import torch
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.rope import Rope, rotated

BASE = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
KINDS = {
    "linear": {"factor": 4.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
    "longrope": {
        "original_max_position_embeddings": 32,
        "short_factor": [1.0 + i / 8 for i in range(8)],
        "long_factor": [2.0 + i for i in range(8)],
    },
}


@pytest.mark.parametrize("positions", [8, 48])
@pytest.mark.parametrize("kind", KINDS)
def test_cosines_and_sines_are_those_of_transformers(kind, positions):
    parameters = {"rope_type": kind, "rope_theta": 10000.0, **KINDS[kind]}
    config = LlamaConfig(**{k: v for k, v in BASE.items() if k != "model_type"})
    config.rope_parameters = dict(parameters)
    frequencies, scale = ROPE_INIT_FUNCTIONS[kind](config, seq_len=positions)
    angles = torch.arange(positions)[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    cosines, sines = Rope({**BASE, "rope_parameters": parameters}, 16)(
        positions, torch.float32, torch.device("cpu")
    )
    assert torch.allclose(cosines, angles.cos() * scale, atol=1e-5)
    assert torch.allclose(sines, angles.sin() * scale, atol=1e-5)


def test_older_files_say_it_with_other_words():
    old = {**BASE, "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}}
    new = {
        **BASE,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0},
    }
    cpu = torch.device("cpu")
    for found, want in zip(
        Rope(old, 16)(9, torch.float32, cpu), Rope(new, 16)(9, torch.float32, cpu), strict=True
    ):
        assert torch.equal(found, want)


def test_part_of_a_head_is_turned_and_the_rest_kept():
    config = {"model_type": "phi3", "partial_rotary_factor": 0.5, "rope_theta": 10000.0}
    assert Phi3Config().rope_parameters["rope_theta"] == 10000.0
    cosines, sines = Rope(config, 8)(3, torch.float32, torch.device("cpu"))
    assert cosines.shape == (3, 4)
    x = torch.ones(1, 1, 3, 8)
    turned = rotated(x, cosines, sines)
    assert torch.equal(turned[..., 4:], x[..., 4:])
    # The first pair of dimensions turns by one radian a position: cos 1 - sin 1.
    assert float(turned[0, 0, 1, 0]) == pytest.approx(0.5403023 - 0.8414710, abs=1e-6)


def test_an_unknown_kind_is_refused():
    rope = Rope({**BASE, "rope_parameters": {"rope_type": "dynamic"}}, 16)
    with pytest.raises(ModelError, match="rope_type is 'dynamic'"):
        rope(4, torch.float32, torch.device("cpu"))
