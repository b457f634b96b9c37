"""Writes a shape's random weights as GGUF, named and ordered as llama.cpp's converter does.

Layout and keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Every matrix has the
same type (what ``llama-quantize --pure`` makes), every vector is float32.
"""

from pathlib import Path

import numpy as np
from gguf import (
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    GGUFWriter,
    LlamaFileType,
    get_tensor_name_map,
    quants,
)
from numpy.typing import NDArray

from bench.random_weights import RandomWeights
from bench.report import BenchError
from bench.shapes import Shape
from bench.vocabulary import vocabulary
from wire.gguf_names import stored_rows

_TYPES = {
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (GGMLQuantizationType.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
_FAMILIES = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2, "qwen3": MODEL_ARCH.QWEN3}
_NORMAL, _CONTROL = 1, 3  # types of tokens


def write_gguf(shape: Shape, file: Path, stored: str) -> None:
    """Write one file.

    Args:
        shape: of a family whose weights llama.cpp takes with no other change than Llama's order.
        file: what to write.
        stored: ``f16``, ``q8_0`` or ``q4_0``.

    Raises:
        BenchError: another family.
    """
    family = shape.config["model_type"]
    if family not in _FAMILIES:
        raise BenchError(f"{shape.name}: no GGUF is written for {family}.")
    architecture = _FAMILIES[family]
    writer = GGUFWriter(file, MODEL_ARCH_NAMES[architecture])
    _add_keys(writer, shape, _TYPES[stored][1])
    _add_vocabulary(writer, shape)
    weights = RandomWeights(shape)
    names = get_tensor_name_map(architecture, shape.config["num_hidden_layers"])
    for name, sizes in weights.shapes.items():
        renamed = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if renamed is None:
            raise BenchError(f"{shape.name}: GGUF has no name for {name}.")
        kind = _kind(sizes, stored)
        size_bytes = int(np.prod(quants.quant_shape_to_byte_shape(sizes, kind)))
        writer.add_tensor_info(renamed, sizes, np.dtype(np.float32), size_bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, sizes in weights.shapes.items():
        values = weights.float32(name)
        if family == "llama":
            values = _llama_order(values, name, shape)
        writer.write_tensor_data(quants.quantize(values, _kind(sizes, stored)))
    writer.close()


def _kind(sizes: tuple[int, ...], stored: str) -> GGMLQuantizationType:
    return GGMLQuantizationType.F32 if len(sizes) == 1 else _TYPES[stored][0]


def _llama_order(values: NDArray[np.float32], name: str, shape: Shape) -> NDArray[np.float32]:
    """Reorder the rows of Llama's queries and keys, as `wire.gguf_names` tells."""
    head_dim = shape.config["hidden_size"] // shape.config["num_attention_heads"]
    order = stored_rows(name, "llama", len(values), shape.config.get("head_dim", head_dim))
    return values if order is None else values[order]


def _add_keys(writer: GGUFWriter, shape: Shape, file_type: LlamaFileType) -> None:
    config = shape.config
    head_dim = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    writer.add_name(shape.name)
    writer.add_file_type(file_type)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _add_vocabulary(writer: GGUFWriter, shape: Shape) -> None:
    made = vocabulary(shape.config["vocab_size"])
    end = len(made.tokens) - 1
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if shape.config["model_type"] != "llama" else "gpt-2")
    writer.add_token_list(made.tokens)
    writer.add_token_types([_NORMAL] * end + [_CONTROL])
    writer.add_token_merges([" ".join(pair) for pair in made.merges])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
