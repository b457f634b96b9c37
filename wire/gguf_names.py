"""GGUF's tensors by Hugging Face's names, and what llama.cpp's converter did to them.

Source: gguf-py/gguf/tensor_mapping.py and convert_hf_to_gguf.py in
https://github.com/ggml-org/llama.cpp. For the architecture "llama" (Llama, Mistral) it moves the
rows of q and k so that the two numbers which rotary embeddings turn together stand side by side;
to Gemma's norms it adds 1. Reading undoes both, so that an adapter means what PEFT means by it;
exports do both, to weights and adapters alike.
"""

import re

import numpy as np
from numpy.typing import NDArray

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_FAMILY_BLOCK = {
    "gemma2": {
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    "phi3": {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
}
_HUGGING_FACE = re.compile(r"model\.layers\.(\d{1,5})\.([a-z_.]+)\.(weight|bias)\Z")
_PATTERN = re.compile(r"blk\.(\d{1,5})\.([a-z_]+)\.(weight|bias)\Z")
#: Families whose q and k were moved.
_MOVED = ("llama", "mistral")


def hugging_face_name(name: str, family: str) -> str | None:
    """Return a tensor's name in Hugging Face's layout, or None if it has no place there.

    Args:
        name: in the GGUF file.
        family: ``model_type`` of the configuration.
    """
    if name in _TOP:
        return _TOP[name]
    found = _PATTERN.match(name)
    if found is None:
        return None
    layer, part, end = found.groups()
    module = (_BLOCK | _FAMILY_BLOCK.get(family, {})).get(part)
    return None if module is None else f"model.layers.{int(layer)}.{module}.{end}"


def gguf_name(name: str, family: str) -> str | None:
    """Return a tensor's name in a GGUF file, or None if it has no place there.

    Args:
        name: in Hugging Face's layout.
        family: ``model_type`` of the configuration.
    """
    for stored, known in _TOP.items():
        if name == known:
            return stored
    found = _HUGGING_FACE.match(name)
    if found is None:
        return None
    layer, module, end = found.groups()
    parts = _BLOCK | _FAMILY_BLOCK.get(family, {})
    part = next((part for part, known in parts.items() if known == module), None)
    return None if part is None else f"blk.{int(layer)}.{part}.{end}"


def moved_rows(name: str, family: str, rows: int, head_dim: int) -> NDArray[np.int64] | None:
    """Return where each row of a tensor stands in the file, or None if all are in their places.

    The converter writes a head's row ``half * head_dim / 2 + pair`` at ``2 * pair + half``.

    Args:
        name: in Hugging Face's layout, of a weight or of a bias.
        family: ``model_type`` of the configuration.
        rows: of the tensor, a multiple of `head_dim`.
        head_dim: rows of one head.

    Returns:
        (rows,).
    """
    if family not in _MOVED or name.split(".")[-2] not in ("q_proj", "k_proj"):
        return None
    places = np.arange(rows).reshape(-1, head_dim // 2, 2)  # (heads, pair, half)
    return places.swapaxes(1, 2).reshape(-1)


def stored_rows(name: str, family: str, rows: int, head_dim: int) -> NDArray[np.int64] | None:
    """Return the row that stands at each place of the file: the inverse of `moved_rows`."""
    moved = moved_rows(name, family, rows, head_dim)
    return None if moved is None else np.argsort(moved)


def added(name: str, family: str) -> float:
    """Return what was added to each number of a tensor.

    Args:
        name: in Hugging Face's layout.
        family: ``model_type`` of the configuration.
    """
    return 1.0 if family == "gemma2" and name.endswith("norm.weight") else 0.0
