"""A base model as a GGUF file.

Each matrix is stored in the type asked for and each vector in float32, as convert_hf_to_gguf.py
does (https://github.com/ggml-org/llama.cpp). A matrix whose rows are no multiple of 32 stays in
float16. In a Q4_0 file the head, which costs most when it is coarse, has 8 bits: llama-quantize
spares it, too, with a type that only llama.cpp can make (`by_llama_cpp`).
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType

from hub.export.base_type import BaseType
from hub.export.gguf.by_llama_cpp import quantise
from hub.export.gguf.keys import architecture_of, keys_of
from hub.export.gguf.rope import rope_of
from hub.export.gguf.tokenizer import tokenizer_keys
from hub.export.gguf.writer import BLOCK, F16, F32, Q4_0, Q8_0, Array, Planned, write_gguf
from wire.derived import BASE_KEY
from wire.errors import MalformedError
from wire.gguf_names import added, gguf_name, stored_rows
from wire.model_file import config_of
from wire.shape import parameter_shapes, shape_of
from wire.whole_model import BaseWeights

_TYPES: dict[BaseType, tuple[GGMLQuantizationType, LlamaFileType]] = {
    BaseType.F16: (F16, LlamaFileType.MOSTLY_F16),
    BaseType.Q8_0: (Q8_0, LlamaFileType.MOSTLY_Q8_0),
    BaseType.Q4_0: (Q4_0, LlamaFileType.MOSTLY_Q4_0),
}
#: Which biases llama.cpp loads in any family, and the families where it loads all.
_BIASED = ("q_proj.bias", "k_proj.bias", "v_proj.bias")
_ALL_BIASED = ("llama",)


def write_base(folder: Path, path: Path, stored: BaseType, digest: str) -> str | None:
    """Write a Hugging Face folder's model as one file.

    Args:
        folder: of the base, of a family of `hub.export.gguf.keys.ARCHITECTURES`.
        path: of the file.
        stored: in which type matrices are stored.
        digest: of the base's manifest.

    Returns:
        Why the file holds no tokenizer, None if it does.

    Raises:
        MalformedError: llama.cpp would compute something else, or a file isn't what it should be.
        WireError: there is no model.
        OSError: a file can't be read or written.
    """
    if stored not in _TYPES:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as beside:
            whole = Path(beside) / "f16.gguf"
            problem = write_base(folder, whole, BaseType.F16, digest)
            quantise(whole, path, stored)
            return problem
    config = config_of(folder)
    architecture, family = architecture_of(config), str(config["model_type"])
    shapes = parameter_shapes(config)
    shape = shape_of(config, 2)
    weights = BaseWeights(folder, shapes)
    kind, file_type = _TYPES[stored]
    head = "model.embed_tokens.weight" if shape.tied_embeddings else "lm_head.weight"
    turns, factors = rope_of(config, architecture, shape.head_dim)
    tensors = [Planned(name, one.shape, F32, _given(one)) for name, one in factors.items()]
    for name, sizes in shapes.items():
        wanted = Q8_0 if kind is Q4_0 and name == head else kind
        tensors.append(
            Planned(
                _named(name, family),
                sizes,
                _kept(sizes, wanted),
                _Converted(weights, name, family, shape.head_dim),
            )
        )
    tokens, problem = tokenizer_keys(folder, config)
    keys: dict[str, Any] = {
        "general.type": "model",
        "general.basename": family,  # tells Mistral from Llama
        "general.file_type": int(file_type),
        BASE_KEY: digest,
        **{f"{architecture}.{key}": value for key, value in (keys_of(config) | turns).items()},
        **tokens,
    }
    write_gguf(path, architecture, keys, tensors)
    return problem


class _Converted:
    """Reads a weight and brings it into the file's order when it is called."""

    def __init__(self, weights: BaseWeights, name: str, family: str, head_dim: int) -> None:
        self._weights, self._name = weights, name
        self._family, self._head_dim = family, head_dim

    def __call__(self) -> Array:
        values = self._weights.get(self._name)
        more = added(self._name, self._family)
        if more:
            values = values + np.float32(more)
        return in_file_order(values, self._name, self._family, self._head_dim)


def in_file_order(values: Array, name: str, family: str, head_dim: int) -> Array:
    """Return a weight's rows, or a factor's, in the order that the file has them in.

    Args:
        values: one row for each output.
        name: of the weight, in Hugging Face's layout.
        family: ``model_type`` of the configuration.
        head_dim: rows of one head.
    """
    order = stored_rows(name, family, len(values), head_dim)
    return values if order is None else values[order]


def _named(name: str, family: str) -> str:
    found = gguf_name(name, family)
    biased = name.endswith(".bias") and not name.endswith(_BIASED)
    if found is None or (biased and family not in _ALL_BIASED):
        raise MalformedError(f"llama.cpp has no {name} in a model of the family {family}.")
    return found


def _kept(sizes: tuple[int, ...], wanted: GGMLQuantizationType) -> GGMLQuantizationType:
    if len(sizes) == 1:
        return F32
    return F16 if sizes[-1] % BLOCK else wanted


def _given(values: Array) -> Callable[[], Array]:
    return lambda: values
