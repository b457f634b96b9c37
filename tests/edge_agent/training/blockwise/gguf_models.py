"""Models as GGUF files, written with the `gguf` package by the rules of llama.cpp's converter.

The rules are those of convert_hf_to_gguf.py in https://github.com/ggml-org/llama.cpp: names from
its tensor map, rows of q and k reordered for the architecture "llama", 1 added to Gemma's norms,
Llama 3.1's scaling worked out for each frequency.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

ARCHITECTURES = {
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}


def write_gguf(
    model: transformers.PreTrainedModel,
    path: Path,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    other: Mapping[str, GGMLQuantizationType] | None = None,
) -> dict[str, NDArray[np.uint8]]:
    """Write a model; return every tensor's bytes by its name in the file.

    Args:
        model: of a known family.
        path: of the file.
        kind: of matrices; vectors are float32.
        other: kinds of some matrices, by their names in the file.
    """
    config = model.config
    arch = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    _add_keys(writer, config)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    stored: dict[str, NDArray[np.uint8]] = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        renamed = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert renamed is not None, name
        kept = (other or {}).get(renamed, kind) if value.ndim > 1 else GGMLQuantizationType.F32
        array = gguf.quants.quantize(_moved(name, value, config).numpy(), kept)
        writer.add_tensor(renamed, array, raw_dtype=kept)
        stored[renamed] = array
    for name, factors in _rope_factors(config).items():
        writer.add_tensor(name, np.array(factors, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


def _moved(name: str, value: torch.Tensor, config: Any) -> torch.Tensor:
    value = value.detach().float()
    if config.model_type == "gemma2" and name.endswith("norm.weight"):
        return value + 1
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    part = name.split(".")[-2]
    if config.model_type not in ("llama", "mistral") or part not in heads:
        return value
    by_half = value.reshape(heads[part], 2, value.shape[0] // heads[part] // 2, *value.shape[1:])
    return by_half.swapaxes(1, 2).reshape(value.shape).contiguous()


def _head_dim(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _add_keys(writer: gguf.GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    writer.add_name(config.model_type)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_dim(config))
    writer.add_value_length(_head_dim(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    share = rope.get("partial_rotary_factor", 1.0)
    writer.add_rope_dimension_count(int(_head_dim(config) * share))
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_token_list([f"token {i}" for i in range(config.vocab_size)])
    if config.pad_token_id is not None:
        writer.add_pad_token_id(config.pad_token_id)
    if config.model_type in ("mistral", "phi3", "gemma2") and config.sliding_window:
        writer.add_sliding_window(config.sliding_window)
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "longrope":
        original = rope["original_max_position_embeddings"]
        scale = config.max_position_embeddings / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))


def _rope_factors(config: Any) -> dict[str, list[float]]:
    rope = config.rope_parameters
    if rope["rope_type"] == "longrope":
        return {
            "rope_factors_long.weight": rope["long_factor"],
            "rope_factors_short.weight": rope["short_factor"],
        }
    if rope["rope_type"] != "llama3":
        return {}
    original, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    factors = []
    for at in range(0, _head_dim(config), 2):
        length = 2 * math.pi * rope["rope_theta"] ** (at / _head_dim(config))
        if length < original / high:
            factors.append(1.0)
        elif length > original / low:
            factors.append(factor)
        else:
            smooth = (original / length - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return {"rope_freqs.weight": factors}
