import pytest

from edge_agent.training.blockwise.gguf_names import added, hugging_face_name, moved_rows


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


def test_a_row_is_found_where_the_converter_put_it() -> None:
    # Two heads of 6: the file has each head's rows in the order 0 3 1 4 2 5.
    stored = [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    order = moved_rows("model.layers.0.self_attn.k_proj.weight", "llama", 12, 6)
    assert order is not None
    assert [stored[place] for place in order] == list(range(12))


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
