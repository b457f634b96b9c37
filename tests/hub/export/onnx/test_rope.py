"""Angles against transformers' own."""

import numpy as np
import pytest
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from bench.export_models import MODELS, SIZES
from hub.export.onnx.rope import turns_of
from wire.errors import MalformedError

STRETCHED = [name for name, (_, special) in MODELS.items() if "rope_parameters" in special]


@pytest.mark.parametrize("name", STRETCHED)
def test_angles_are_those_of_transformers(name: str) -> None:
    family, special = MODELS[name]
    config = transformers.AutoConfig.for_model(family, **{**SIZES, **special})
    turns = turns_of(config.to_dict(), 16)
    made = ROPE_INIT_FUNCTIONS[config.rope_parameters["rope_type"]]
    short, scale = made(config, "cpu", seq_len=10)
    np.testing.assert_allclose(turns.angles, short.numpy(), rtol=1e-6)
    assert turns.scale == pytest.approx(scale)
    if turns.long is not None:
        long, _ = made(config, "cpu", seq_len=turns.original + 1)
        np.testing.assert_allclose(turns.long, long.numpy(), rtol=1e-6)


def test_a_position_of_the_plain_kind_by_hand() -> None:
    """Two pairs of base 100: 1 and 100 ** -(2 / 4)."""
    turns = turns_of({"model_type": "llama", "rope_theta": 100.0}, 4)
    np.testing.assert_allclose(turns.angles, [1.0, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, "rope_type is 'dynamic'"),
        ({"rope_type": "linear", "factor": 0}, "factor is 0"),
        ({"rope_type": "linear"}, "factor is None"),
        (
            {"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0], "long_factor": [1.0]},
            "short_factor must be a list of 2 numbers",
        ),
    ],
)
def test_what_is_not_known_is_refused(parameters: dict[str, object], words: str) -> None:
    config = {"model_type": "llama", "rope_parameters": {"rope_theta": 1e4, **parameters}}
    with pytest.raises(MalformedError, match=words):
        turns_of(config, 4)
