"""What a configuration says of a block; the training blocks' tests hold it against transformers."""

import pytest

from wire.block_spec import spec_of
from wire.errors import MalformedError

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 96,
}


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        ({"model_type": "llama", "sliding_window": 8}, (None,) * 4),
        ({"model_type": "mistral", "sliding_window": 8}, (8,) * 4),
        ({"model_type": "phi3"}, (None,) * 4),
        ({"model_type": "gemma2", "sliding_window": 8}, (8, None, 8, None)),
        ({"model_type": "qwen2", "sliding_window": 8}, (None,) * 4),
        (
            {"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": True,
             "max_window_layers": 3},
            (None, None, None, 8),
        ),
    ],
)  # fmt: skip
def test_windows_of_each_block(config: dict[str, object], windows: tuple[int | None, ...]) -> None:
    assert spec_of({**SIZES, **config}).windows == windows


def test_an_activation_that_is_not_known_is_refused() -> None:
    with pytest.raises(MalformedError, match="hidden_act is 'relu'; known are silu"):
        spec_of({**SIZES, "model_type": "llama", "hidden_act": "relu"})
