"""What is read from the configs of other families is near what transformers builds from them."""

import json

import pytest

from wire.errors import MalformedError
from wire.shape import shape_of

LLAMA = {"model_type": "other", "hidden_size": 32, "num_hidden_layers": 2,
         "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 96}  # fmt: skip
WIDE = {"hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8}
GROUPED = WIDE | {"intermediate_size": 704, "num_key_value_heads": 4}
#: Sizes in each family's own words.
SIZES = {
    "bloom": {"hidden_size": 256, "n_layer": 3, "n_head": 8},
    "gemma": GROUPED | {"head_dim": 64},
    "gpt2": {"n_embd": 256, "n_layer": 3, "n_head": 8, "n_positions": 32},
    "gpt_neox": WIDE | {"intermediate_size": 704},
    "olmo2": GROUPED,
    "opt": WIDE | {"ffn_dim": 704, "word_embed_proj_dim": 256, "max_position_embeddings": 32},
    "starcoder2": GROUPED,
}


@pytest.mark.parametrize("family", SIZES)
def test_parameters_are_those_of_the_model_that_transformers_builds(tmp_path, family):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    made = transformers.AutoConfig.for_model(
        family, vocab_size=1000, pad_token_id=0, tie_word_embeddings=True, **SIZES[family]
    )
    made.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"tie_word_embeddings": True}
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made)
    model.tie_weights()
    count = sum(value.numel() for value in model.parameters())
    found = shape_of(config, 2)
    # Biases and learned positions are left out.
    assert found.parameters == pytest.approx(count, rel=0.02)
    assert found.model_type == family
    assert (found.hidden_size, found.layers, found.heads) == (256, 3, 8)


def test_what_a_config_leaves_open_is_read_from_above():
    # Two tables of 96·32; a block: four of 32·32, three of 48·32, two norms; the last norm.
    block = 4 * 32 * 32 + 3 * 48 * 32 + 2 * 32
    shape = shape_of(LLAMA, 2)
    assert shape.parameters == 2 * 96 * 32 + 2 * block + 32
    assert (shape.kv_heads, shape.head_dim, shape.tied_embeddings) == (4, 8, False)


def test_one_pair_of_keys_and_values_for_all_heads_is_seen():
    assert shape_of(LLAMA | {"multi_query": True}, 2).kv_heads == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"text_config": {}}, "more than a language model"),
        ({"num_local_experts": 8}, "num_local_experts is 8: mixtures of experts"),
        ({"state_size": 16}, "state_size: only blocks of attention"),
        ({"mamba_d_state": 16}, "mamba_d_state: only blocks of attention"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "has linear_attention"),
        ({"layer_types": ["conv", "full_attention"]}, "has conv"),
        ({"num_attention_heads": None}, "num_attention_heads is None"),
        ({"hidden_size": 2**60}, "hidden_size is"),
        ({"model_type": None}, "model_type is None"),
    ],
)
def test_what_would_be_read_wrongly_is_refused_with_the_reason(changes, reason):
    with pytest.raises(MalformedError, match=reason):
        shape_of(LLAMA | changes, 2)


def test_blocks_of_attention_alone_are_taken_whatever_else_their_family_can_hold():
    hybrid = {"mamba_d_state": 16, "layer_types": ["attention", "attention"]}
    assert shape_of(LLAMA | hybrid, 2).layers == 2
