"""A GGUF file's metadata in the words of Hugging Face's ``config.json``.

The keys are those of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; what each family
leaves out or renames is what llama.cpp's convert_hf_to_gguf.py writes and its loader assumes.
"""

import math
import struct
from pathlib import Path
from typing import Any

from wire.errors import MalformedError
from wire.gguf_header import GgufHeader, read_header

#: By GGUF's general.architecture; Mistral's models call themselves llama.
_FAMILIES = ("gemma2", "llama", "phi3", "qwen2", "qwen3")
_ABSENT = object()
_MAX_FACTORS = 4096
#: Gemma 2's own, for files that leave them out, as llama.cpp does.
_ATTENTION_CAP, _LOGIT_CAP = 50.0, 30.0
_GEMMA_27B_LAYERS = 46


def config_of_gguf(path: Path) -> dict[str, Any]:
    """Return what ``config.json`` would say of a GGUF file's model.

    Raises:
        MalformedError: not a GGUF file, one of several parts, an unknown architecture, or a key
            that is missing or impossible.
        OSError: it can't be read.
    """
    header = read_header(path)
    metadata = _Metadata(path.name, header)
    config = _sizes(metadata, header)
    config |= _FAMILY_RULES[metadata.architecture](metadata, config)
    config |= _rope(path, metadata, config)
    for name in ("bos", "eos", "padding"):
        token = header.metadata.get(f"tokenizer.ggml.{name}_token_id")
        key = {"padding": "pad"}.get(name, name) + "_token_id"
        config[key] = token if type(token) is int else None
    return config


class _Metadata:
    """A header's values by their keys without the architecture's prefix."""

    def __init__(self, file: str, header: GgufHeader) -> None:
        architecture = header.metadata.get("general.architecture")
        if architecture not in _FAMILIES:
            raise MalformedError(
                f"{file}: general.architecture is {str(architecture)[:100]!r}; "
                f"known are {', '.join(_FAMILIES)}."
            )
        if header.metadata.get("split.count", 1) not in (0, 1):
            raise MalformedError(
                f"{file} is one of several parts. Put them together with llama-gguf-split --merge."
            )
        self.architecture: str = architecture
        self.file = file
        self.tensors = header.tensors
        self._values = header.metadata
        if self.whole("expert_count", 0):
            raise MalformedError(f"{file} is a mixture of experts, which is not known here.")

    def whole(self, key: str, default: Any = _ABSENT) -> int:
        """Return a whole number; one for each block counts if all are the same."""
        value = self._find(key, default)
        if isinstance(value, list) and value and value.count(value[0]) == len(value):
            value = value[0]
        if type(value) is not int:
            raise self._wrong(key, value, "a whole number")
        return value

    def real(self, key: str, default: Any = _ABSENT) -> float:
        """Return a number; float32 gets the shortest decimal form that says the same."""
        value = self._find(key, default)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self._wrong(key, value, "a number")
        return float(f"{value:.7g}")

    def text(self, key: str) -> str:
        """Return a text, empty where there is none."""
        value = self._values.get(key, "")
        return value if isinstance(value, str) else ""

    def has(self, key: str) -> bool:
        """Whether there is such a key."""
        return f"{self.architecture}.{key}" in self._values

    def _find(self, key: str, default: Any) -> Any:
        value = self._values.get(f"{self.architecture}.{key}", default)
        if value is _ABSENT:
            raise MalformedError(f"{self.file} has no {self.architecture}.{key}.")
        return value

    def _wrong(self, key: str, value: Any, wanted: str) -> MalformedError:
        return MalformedError(
            f"{self.file}: {self.architecture}.{key} is {str(value)[:100]}; must be {wanted}."
        )


def _sizes(metadata: _Metadata, header: GgufHeader) -> dict[str, Any]:
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise MalformedError(f"{metadata.file} has no matrix token_embd.weight.")
    hidden, heads = metadata.whole("embedding_length"), metadata.whole("attention.head_count")
    if not 0 < heads <= hidden:
        raise MalformedError(f"{metadata.file}: attention.head_count is {heads}.")
    head_dim = metadata.whole("attention.key_length", hidden // heads)
    if head_dim < 1 or metadata.whole("attention.value_length", head_dim) != head_dim:
        raise MalformedError(f"{metadata.file}: heads of keys and values differ in size.")
    return {
        "model_type": metadata.architecture,
        "hidden_size": hidden,
        "intermediate_size": metadata.whole("feed_forward_length"),
        "num_hidden_layers": metadata.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.whole("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": metadata.whole("context_length"),
        "rms_norm_eps": metadata.real("attention.layer_norm_rms_epsilon"),
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
    }


def _llama(metadata: _Metadata, _config: dict[str, Any]) -> dict[str, Any]:
    bias = "blk.0.ffn_up.bias" in metadata.tensors
    window = metadata.whole("attention.sliding_window", 0)
    named = (metadata.text("general.basename") or metadata.text("general.name")).lower()
    if not window and not named.startswith("mistral"):
        return {"mlp_bias": bias}
    return {"model_type": "mistral", "sliding_window": window or None}


def _qwen(_metadata: _Metadata, _config: dict[str, Any]) -> dict[str, Any]:
    # The converter writes no window, and llama.cpp has none for these.
    return {"use_sliding_window": False}


def _phi3(metadata: _Metadata, _config: dict[str, Any]) -> dict[str, Any]:
    return {"sliding_window": metadata.whole("attention.sliding_window", 0) or None}


def _gemma2(metadata: _Metadata, config: dict[str, Any]) -> dict[str, Any]:
    # llama.cpp tells the model of 27 billion parameters by its number of blocks.
    large = config["num_hidden_layers"] == _GEMMA_27B_LAYERS
    scalar = config["hidden_size"] // config["num_attention_heads"] if large else config["head_dim"]
    return {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": scalar,
        "attn_logit_softcapping": metadata.real("attn_logit_softcapping", _ATTENTION_CAP),
        "final_logit_softcapping": metadata.real("final_logit_softcapping", _LOGIT_CAP),
        "sliding_window": metadata.whole("attention.sliding_window", 4096),
    }


_FAMILY_RULES = {"gemma2": _gemma2, "llama": _llama, "phi3": _phi3, "qwen2": _qwen, "qwen3": _qwen}


def _rope(path: Path, metadata: _Metadata, config: dict[str, Any]) -> dict[str, Any]:
    head_dim = config["head_dim"]
    dimensions = metadata.whole("rope.dimension_count", head_dim)
    if not 0 < dimensions <= head_dim:
        raise MalformedError(f"{path.name}: rope.dimension_count is {dimensions} of {head_dim}.")
    found: dict[str, Any] = {"rope_theta": metadata.real("rope.freq_base", 10_000.0)}
    if dimensions < head_dim:
        found["partial_rotary_factor"] = dimensions / head_dim
    scaling = _scaling(path, metadata, config["max_position_embeddings"], dimensions // 2)
    if scaling is not None:
        found["rope_scaling"] = scaling
        original = scaling.get("original_max_position_embeddings")
        if original is not None:
            found["original_max_position_embeddings"] = original
    return found


def _scaling(path: Path, metadata: _Metadata, context: int, count: int) -> dict[str, Any] | None:
    """Return ``rope_scaling``, or None where positions are as they were learnt."""
    kind = metadata.text(f"{metadata.architecture}.rope.scaling.type") or "none"
    original = metadata.whole("rope.scaling.original_context_length", context)
    short = _factors(path, metadata, "rope_factors_short.weight", count)
    long = _factors(path, metadata, "rope_factors_long.weight", count)
    if short and long:
        return {
            "rope_type": "longrope",
            "short_factor": short,
            "long_factor": long,
            "attention_factor": metadata.real("rope.scaling.attn_factor", 1.0),
            "original_max_position_embeddings": original,
        }
    baked = _factors(path, metadata, "rope_freqs.weight", count)
    if baked:
        # Llama 3.1's scaling, worked out for each frequency when the file was made.
        return {
            "rope_type": "longrope",
            "short_factor": baked,
            "long_factor": baked,
            "attention_factor": 1.0,
            "original_max_position_embeddings": context,
        }
    if kind == "none" and metadata.has("rope.scale_linear"):
        return {"rope_type": "linear", "factor": metadata.real("rope.scale_linear")}
    if kind == "none" or (kind == "longrope" and metadata.architecture == "phi3"):
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": metadata.real("rope.scaling.factor")}
    if kind == "yarn":
        return _yarn(metadata, original)
    raise MalformedError(f"{path.name}: rope.scaling.type is {kind[:100]!r}, not known here.")


def _yarn(metadata: _Metadata, original: int) -> dict[str, Any]:
    factor = metadata.real("rope.scaling.factor")
    found: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
    }
    for key, name in (("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")):
        if metadata.has(f"rope.scaling.{key}"):
            found[name] = metadata.real(f"rope.scaling.{key}")
    if metadata.has("rope.scaling.attn_factor"):
        # llama.cpp puts it on top of YaRN's own growth; transformers in its place.
        growth = 0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0
        found["attention_factor"] = metadata.real("rope.scaling.attn_factor") * growth
    return found


def _factors(path: Path, metadata: _Metadata, name: str, count: int) -> list[float]:
    """Return a small tensor of factors, empty where there is none."""
    tensor = metadata.tensors.get(name)
    if tensor is None:
        return []
    if tensor.kind != "F32" or tensor.shape != (count,) or count > _MAX_FACTORS:
        raise MalformedError(
            f"{path.name}: {name} is {tensor.kind} {list(tensor.shape)}; must be F32 [{count}]."
        )
    with path.open("rb") as file:
        file.seek(tensor.start)
        values = struct.unpack(f"<{count}f", file.read(tensor.size_bytes))
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise MalformedError(f"{path.name}: {name} has entries that are no factors.")
    return list(values)
