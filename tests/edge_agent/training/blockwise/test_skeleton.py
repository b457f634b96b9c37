"""What can be gone through block by block is found in a model, anything else refused."""

import pytest
import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.skeleton import build

from .families import SIZES


def config(family, **special):
    return {"model_type": family, **SIZES, **special}


def test_parameters_have_no_values_and_computed_tables_have():
    made = build(config("olmo2"), torch.bfloat16)
    assert all(value.is_meta for value in made.model.parameters())
    assert {value.dtype for value in made.model.parameters()} == {torch.bfloat16}
    table = made.model.model.rotary_emb.inv_freq
    # 1 / 10000^(2i/8), Su et al., 2021 (arXiv 2104.09864), section 3.2.2
    assert torch.allclose(table, torch.tensor([1.0, 0.1, 0.01, 0.001]))
    torch.nn.Linear(2, 2).weight.sum().item()  # modules made afterwards have values again


def test_layers_have_the_shapes_that_the_model_gives_them():
    made = build(config("olmo2"), torch.float32)
    assert (made.root, made.embedding, made.head) == (
        "model.layers", "model.embed_tokens", "lm_head"
    )  # fmt: skip
    assert len(made.blocks) == 3
    assert len(made.layers) == 3 * 7
    name, layer = next(iter(made.layers.items()))
    assert name == "model.layers.0.self_attn.q_proj"
    keys, down = (
        made.layers[f"model.layers.2.{end}"] for end in ("self_attn.k_proj", "mlp.down_proj")
    )
    assert (layer.out, layer.inputs) == (32, 32)
    assert (keys.out, keys.inputs) == (16, 32)
    assert (down.out, down.inputs, down.flipped) == (32, 48, False)


def test_matrices_of_gpt2_are_known_to_be_stored_the_other_way_round():
    layer = build(config("gpt2"), torch.float32).layers["transformer.h.0.attn.c_attn"]
    assert (layer.out, layer.inputs, layer.flipped) == (96, 32, True)


def test_norms_biases_and_positions_stay_in_memory_and_matrices_do_not():
    kept = build(config("opt", ffn_dim=48), torch.float32).kept()
    assert "model.decoder.embed_positions.weight" in kept
    assert "model.decoder.layers.0.fc1.bias" in kept
    assert "model.decoder.layers.0.self_attn_layer_norm.weight" in kept
    assert not any(name.endswith(("proj.weight", "fc1.weight", "fc2.weight")) for name in kept)
    assert not {"model.decoder.embed_tokens.weight", "lm_head.weight"} & kept.keys()


@pytest.mark.parametrize(
    ("family", "special", "reason"),
    [
        ("bart", {}, "bart is an encoder-decoder model"),
        ("mixtral", {"num_local_experts": 4}, "belongs to no linear layer. Mixtures of experts"),
        ("mamba", {}, r"conv1d.weight of mamba, \(48, 1, 4\), belongs to no linear layer"),
        ("xlm", {"emb_dim": 32, "n_layers": 3, "n_heads": 4}, "xlm has 4 lists of 3 modules"),
        ("gemma3", {}, "gemma3 has more than a text model in it"),
        ("vit", {}, "transformers can't build a vit"),
        ("olmo2", {"hidden_act": "unheard"}, "transformers can't build a olmo2.*unheard"),
        ("opt", {"max_position_embeddings": 2**21}, "67\\d* numbers outside its blocks"),
        ("own", {"auto_map": {}}, "'own', which transformers doesn't know. Code that comes with"),
        (None, {}, "model_type is None"),
    ],
)
def test_what_cannot_be_gone_through_is_refused_with_the_reason(family, special, reason):
    with pytest.raises(ModelError, match=reason):
        build(config(family, **special), torch.float32)


def test_infinite_numbers_are_understood():
    # transformers writes them like this, for JSON has none.
    special = {"attention_multiplier": {"__float__": "Infinity"}}
    made = build(config("granite", **special), torch.float32)
    assert made.model.config.attention_multiplier == float("inf")
