"""Configurations made from metadata; `tests/edge_agent/training/blockwise/test_gguf_weights.py`
checks with transformers that whole models come out the same."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from wire.errors import MalformedError
from wire.gguf_config import config_of_gguf
from wire.shape import shape_of, target_modules


def write(
    path: Path,
    architecture: str = "llama",
    tensors: dict[str, np.ndarray] | None = None,
    more: Callable[[gguf.GGUFWriter], object] = lambda _: None,
    **sizes: int,
) -> Path:
    """Write a model of 4 blocks, its embedding alone."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(sizes.get("blocks", 4))
    writer.add_context_length(1024)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    more(writer)
    for name, value in {
        "token_embd.weight": np.zeros((50, 64), np.float32),
        **(tensors or {}),
    }.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_sizes_come_under_the_names_of_config_json(tmp_path: Path) -> None:
    config = config_of_gguf(write(tmp_path / "m.gguf"))
    shape = shape_of(config, 2)
    assert (shape.hidden_size, shape.layers, shape.mlp_size, shape.vocab_size) == (64, 4, 96, 50)
    assert (shape.heads, shape.kv_heads, shape.head_dim) == (8, 2, 8)
    assert shape.tied_embeddings
    assert config["rms_norm_eps"] == 1e-6
    assert (config["rope_theta"], config.get("rope_scaling")) == (10_000.0, None)
    assert target_modules(config)["model.layers.3.self_attn.k_proj"] == (16, 64)


def test_an_output_matrix_and_biases_are_seen(tmp_path: Path) -> None:
    tensors = {
        "output.weight": np.zeros((50, 64), np.float32),
        "blk.0.attn_q.bias": np.zeros(64, np.float32),
    }
    config = config_of_gguf(write(tmp_path / "m.gguf", tensors=tensors))
    assert not config["tie_word_embeddings"]
    assert config["attention_bias"]
    assert not config["mlp_bias"]


def test_mistral_is_told_from_llama_by_its_window_or_its_name(tmp_path: Path) -> None:
    window = write(tmp_path / "a.gguf", more=lambda w: w.add_sliding_window(4096))
    config = config_of_gguf(window)
    assert (config["model_type"], config["sliding_window"]) == ("mistral", 4096)
    named = write(tmp_path / "b.gguf", more=lambda w: w.add_name("Mistral 7B v0.3"))
    config = config_of_gguf(named)
    assert (config["model_type"], config["sliding_window"]) == ("mistral", None)


@pytest.mark.parametrize(("blocks", "scalar"), [(26, 16), (42, 16), (46, 8)])
def test_gemma_2_scales_queries_as_llama_cpp_does(tmp_path: Path, blocks: int, scalar: int) -> None:
    # By head_dim, but in the model of 46 blocks (27 billion) by hidden / heads = 64 / 8.
    def more(writer: gguf.GGUFWriter) -> None:
        writer.add_key_length(16)
        writer.add_value_length(16)

    config = config_of_gguf(write(tmp_path / "m.gguf", "gemma2", more=more, blocks=blocks))
    assert config["query_pre_attn_scalar"] == scalar
    assert (config["attn_logit_softcapping"], config["final_logit_softcapping"]) == (50.0, 30.0)


def test_heads_that_are_listed_for_each_block_count_if_they_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    same = write(path, more=lambda w: w.add_array("llama.attention.key_length", [8] * 4))
    assert config_of_gguf(same)["head_dim"] == 8
    mixed = write(path, more=lambda w: w.add_array("llama.attention.key_length", [8, 8, 8, 4]))
    with pytest.raises(MalformedError, match=r"attention\.key_length"):
        config_of_gguf(mixed)


def test_linear_stretching_is_read(tmp_path: Path) -> None:
    def more(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    config = config_of_gguf(write(tmp_path / "m.gguf", more=more))
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (lambda w: w.add_expert_count(8), "mixture of experts"),
        (lambda w: w.add_uint16("split.count", 2), "one of several parts"),
        (lambda w: w.add_uint32("llama.rope.dimension_count", 9), "rope.dimension_count is 9 of 8"),
        (lambda w: w.add_string("llama.rope.scaling.type", "odd"), "type is 'odd'"),
        (lambda w: w.add_uint32("llama.attention.value_length", 4), "differ in size"),
        (lambda w: w.add_string("llama.rope.freq_base", "x"), "freq_base is x; must be a number"),
        (lambda w: w.add_float32("llama.rope.freq_base", float("nan")), "must be a number"),
    ],
)
def test_what_is_not_known_is_refused(
    tmp_path: Path, more: Callable[[gguf.GGUFWriter], object], reason: str
) -> None:
    with pytest.raises(MalformedError, match=reason):
        config_of_gguf(write(tmp_path / "m.gguf", more=more))


def test_an_unknown_architecture_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match=r"'mamba'; known are gemma2, llama, phi3"):
        config_of_gguf(write(tmp_path / "m.gguf", "mamba"))


@pytest.mark.parametrize(
    ("factors", "reason"),
    [
        (np.ones(3, np.float32), r"F32 \[3\]; must be F32 \[4\]"),
        (np.ones(4, np.float16), r"F16 \[4\]"),
        (np.array([1, 2, 0, 3], np.float32), "no factors"),
        (np.array([1, 2, np.inf, 3], np.float32), "no factors"),
    ],
)
def test_factors_of_rotary_embeddings_are_checked(
    tmp_path: Path, factors: np.ndarray, reason: str
) -> None:
    with pytest.raises(MalformedError, match=reason):
        config_of_gguf(write(tmp_path / "m.gguf", tensors={"rope_freqs.weight": factors}))
