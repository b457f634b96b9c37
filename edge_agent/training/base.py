"""The frozen base model: a Hugging Face folder, read from disk only and never from a pickle."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edge_agent.errors import ModelError
from edge_agent.training.errors import is_out_of_memory
from edge_agent.training.tokens import Encoder
from wire.errors import MalformedError
from wire.shape import target_modules

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@dataclass(frozen=True)
class Base:
    """A base model in memory, and its tokenizer.

    Attributes:
        folder: where it was read from.
        model: float32 on the CPU, every parameter frozen, dropout off.
        encoder: text to token ids.
        targets: linear layers that LoRA may adapt, (out, in) by module path.
    """

    folder: Path
    model: Any
    encoder: Encoder
    targets: dict[str, tuple[int, int]]


def load_base(folder: Path) -> Base:
    """Load a base model and its tokenizer.

    Raises:
        ModelError: the folder lacks a file, or a file does not make a causal language model of a
            known family.
    """
    targets = target_modules_of(folder)
    if not any((folder / name).is_file() for name in _WEIGHTS):
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        hint = f" {pickled[0]} is a pickle and never read; convert it." if pickled else ""
        raise ModelError(f"{folder} has no weights: neither {' nor '.join(_WEIGHTS)}.{hint}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
        )
    except Exception as error:
        # transformers raises whatever the parser of the broken file raises.
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{folder} can't be loaded ({type(error).__name__}: {str(error)[:300]}). "
            "Is it a complete causal language model with its tokenizer?"
        ) from error
    model.requires_grad_(False)
    model.eval()
    return Base(folder, model, Encoder(tokenizer), targets)


def target_modules_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the linear layers of a model folder from its ``config.json``.

    Raises:
        ModelError: no such file, not JSON, or an unknown family.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} can't be read ({type(error).__name__}).") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON. Fetch or export the model again.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object. Fetch or export the model again.")
    try:
        return target_modules(config)
    except MalformedError as error:
        raise ModelError(f"{path}: {error}") from error
