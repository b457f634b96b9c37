"""Opens a base model's file for the block-wise engine, whichever format it has."""

from pathlib import Path

import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.gguf_weights import GgufWeights
from edge_agent.training.blockwise.safetensors_weights import SafetensorsWeights
from wire.errors import WireError
from wire.model_file import config_of, weight_files


def open_weights(path: Path, dtype: torch.dtype) -> Weights:
    """Map a base model's tensors; nothing but headers is read yet.

    Args:
        path: a folder of Hugging Face's layout, a folder with one GGUF file, or a GGUF file.
        dtype: of what is handed out, bfloat16 or float32.

    Raises:
        ModelError: there is no model, or one that can't be used. Pickles are never read.
    """
    try:
        paths = weight_files(path)
        config = config_of(path)
    except WireError as error:
        pickled = sorted(file.name for file in path.glob("*.bin"))
        hint = f" {pickled[0]} is a pickle and never read; convert it." if pickled else ""
        raise ModelError(f"{error}{hint}") from error
    if paths[0].suffix == ".gguf":
        return GgufWeights.open(config, paths[0], dtype)
    return SafetensorsWeights.open(config, paths, dtype)
