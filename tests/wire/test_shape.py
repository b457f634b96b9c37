"""The shape read from a config agrees with the model that transformers builds from it."""

import json

import pytest

from wire.errors import MalformedError
from wire.shape import parameter_shapes, shape_of, target_modules

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
}


def llama(**changes):
    return {"model_type": "llama", **SIZES, **changes}


def test_parameters_of_a_llama_counted_by_hand():
    # Embeddings and head 2·96·32; a block: q and o 32·32, k and v 16·32, three of 48·32, two norms.
    block = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 2 * 32
    shape = shape_of(llama(), weight_bytes=2)
    assert shape.parameters == 2 * 96 * 32 + 2 * block + 32
    assert (shape.kv_heads, shape.head_dim, shape.weight_bytes) == (2, 8, 2)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3"])
def test_agrees_with_the_model_that_transformers_builds(tmp_path, family, tied):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    made = transformers.AutoConfig.for_model(
        family, **SIZES, tie_word_embeddings=tied, pad_token_id=0, head_dim=8
    )
    made.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(made)
    model.tie_weights()
    assert shape_of(config, 4).parameters == sum(p.numel() for p in model.parameters())
    assert parameter_shapes(config) == {n: tuple(p.shape) for n, p in model.named_parameters()}
    linears = {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    assert list(target_modules(config).items()) == list(linears.items())


@pytest.mark.parametrize("key", ["attention_bias", "mlp_bias"])
def test_biases_that_a_llama_config_asks_for_are_counted(key):
    # q, k, v, o: 32 + 16 + 16 + 32; gate, up, down: 48 + 48 + 32.
    more = {"attention_bias": 96, "mlp_bias": 128}[key]
    plain = shape_of(llama(), 4).parameters
    assert shape_of(llama(**{key: True}), 4).parameters == plain + 2 * more
    biases = [n for n in parameter_shapes(llama(**{key: True})) if n.endswith(".bias")]
    assert len(biases) == {"attention_bias": 8, "mlp_bias": 6}[key]


def test_the_layers_of_an_unknown_family_are_refused_with_the_known_ones():
    with pytest.raises(MalformedError, match=r"'olmo2'; a hub's jobs know .*llama.*qwen2"):
        target_modules(llama(model_type="olmo2"))


@pytest.mark.parametrize("value", [None, 0, -1, 2**60, "32", True, 1.5])
def test_an_impossible_size_is_refused_with_its_key(value):
    with pytest.raises(MalformedError, match="hidden_size"):
        shape_of(llama(hidden_size=value), 4)


def test_heads_that_do_not_group_are_refused():
    with pytest.raises(MalformedError, match="num_key_value_heads is 3"):
        shape_of(llama(num_key_value_heads=3), 4)
