import gguf
import pytest

from wire.gguf_names import added, gguf_name, hugging_face_name, moved_rows, stored_rows
from wire.shape import target_modules


@pytest.mark.parametrize(
    ("family", "name", "expected"),
    [
        ("llama", "token_embd.weight", "model.embed_tokens.weight"),
        ("llama", "output.weight", "lm_head.weight"),
        ("llama", "output_norm.weight", "model.norm.weight"),
        ("llama", "blk.17.ffn_norm.weight", "model.layers.17.post_attention_layernorm.weight"),
        ("gemma2", "blk.0.ffn_norm.weight", "model.layers.0.pre_feedforward_layernorm.weight"),
        ("qwen2", "blk.3.attn_k.bias", "model.layers.3.self_attn.k_proj.bias"),
        ("phi3", "blk.3.ffn_up.weight", "model.layers.3.mlp.gate_up_proj.weight"),
        ("llama", "rope_freqs.weight", None),
        ("llama", "blk.3.attn_qkv.weight", None),
        ("llama", "blk.3.attn_q.scale", None),
        ("llama", "blk.x.attn_q.weight", None),
        ("llama", "blk.123456.attn_q.weight", None),
    ],
)
def test_names_are_those_of_the_converters_map(
    family: str, name: str, expected: str | None
) -> None:
    assert hugging_face_name(name, family) == expected
    if expected is not None:
        assert gguf_name(expected, family) == name


@pytest.mark.parametrize("family", ["gemma2", "llama", "mistral", "phi3", "qwen2", "qwen3"])
def test_every_linear_layer_has_a_name_that_leads_back(family: str) -> None:
    """Names: those of the `gguf` package's own map."""
    config = {"model_type": family, "num_hidden_layers": 2, "hidden_size": 8, "vocab_size": 9,
              "intermediate_size": 12, "num_attention_heads": 2}  # fmt: skip
    arch = {"mistral": "llama"}.get(family, family)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], 2)
    for target in target_modules(config):
        stored = gguf_name(f"{target}.weight", family)
        assert stored == names.get_name(f"{target}.weight", try_suffixes=(".weight",))
        assert hugging_face_name(stored, family) == f"{target}.weight"


def test_what_no_file_has_has_no_name() -> None:
    assert gguf_name("model.layers.0.self_attn.rotary_emb.inv_freq", "llama") is None
    assert gguf_name("model.layers.0.mlp.experts.0.up_proj.weight", "llama") is None


def test_a_row_is_found_where_the_converter_put_it() -> None:
    # Two heads of 6: the file has each head's rows in the order 0 3 1 4 2 5.
    stored = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    order = moved_rows("model.layers.0.self_attn.k_proj.weight", "llama", 12, 6)
    assert order is not None
    assert [stored[place] for place in order] == list(range(12))
    back = stored_rows("model.layers.0.self_attn.k_proj.weight", "llama", 12, 6)
    assert back is not None
    assert back.tolist() == stored


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("model.layers.0.self_attn.v_proj.weight", "llama"),
        ("model.layers.0.self_attn.q_proj.weight", "qwen2"),
        ("lm_head.weight", "mistral"),
    ],
)
def test_other_rows_stay_in_their_places(name: str, family: str) -> None:
    assert moved_rows(name, family, 12, 6) is None


def test_1_was_added_to_gemmas_norms_alone() -> None:
    assert added("model.layers.0.input_layernorm.weight", "gemma2") == 1
    assert added("model.norm.weight", "gemma2") == 1
    assert added("model.layers.0.self_attn.q_proj.weight", "gemma2") == 0
    assert added("model.norm.weight", "llama") == 0
