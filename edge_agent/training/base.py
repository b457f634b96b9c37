"""The frozen base model: a Hugging Face folder, read from disk only and never from a pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from edge_agent.errors import AdapterError, ModelError
from edge_agent.training.accelerator import arithmetic_device
from edge_agent.training.adapter import PlacedAdapter, place
from edge_agent.training.contract import Trained
from edge_agent.training.errors import is_out_of_memory
from edge_agent.training.lowrank import remove
from edge_agent.training.share import ALONE, Share
from edge_agent.training.start import PROMPT, Start
from edge_agent.training.tokenizer import load_tokenizer
from edge_agent.training.tokens import Encoder
from edge_agent.training.whole import WholeModel
from wire.errors import MalformedError
from wire.shape import target_modules

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class ResidentBase:
    """A base model in memory, every parameter frozen, dropout off; and its tokenizer.

    Args:
        folder: where it was read from.
        model: of transformers.
        encoder: text to token ids.
        targets: linear layers that LoRA may adapt, (out, in) by module path.
    """

    def __init__(
        self, folder: Path, model: Any, encoder: Encoder, targets: dict[str, tuple[int, int]]
    ) -> None:
        self.folder = folder
        self.model = model
        self.encoder = encoder
        self.targets = targets
        self.hidden_size = int(model.config.hidden_size)
        self._whole: WholeModel | None = None

    def place(self, start: Start, trained: Trained) -> PlacedAdapter | WholeModel:
        """Put an adapter in place of the one that was there.

        Raises:
            AdapterError: see `edge_agent.training.contract.Base`.
        """
        if trained.core or trained.prefix:
            raise AdapterError("cores and prefixes are trained on streamed rungs only.")
        if start.prompts and PROMPT not in start.prompts:
            raise AdapterError(
                f"{start.name} has a prefix; rungs in memory take soft prompts only."
            )
        if trained.full:
            self.clear()
            self._whole = WholeModel(self.model, start)
            return self._whole
        return place(self.model, self.targets, start, trained)

    def clear(self) -> None:
        """Take the adapter out."""
        if self._whole is not None:
            self._whole.restore()
            self._whole = None
        remove(self.model)

    def close(self) -> None:
        """Nothing but memory is held."""


def load_base(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    checkpointed: bool = False,
    share: Share = ALONE,
) -> ResidentBase:
    """Load a base model and its tokenizer.

    Args:
        folder: in Hugging Face's layout.
        dtype: of weights and activations.
        checkpointed: recompute activations in the backward pass instead of keeping them.
        share: may leave this process only a part of the blocks.

    Raises:
        ModelError: the folder lacks a file, or a file does not make a causal language model of a
            known family.
    """
    targets = target_modules_of(folder)
    if not any((folder / name).is_file() for name in _WEIGHTS):
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        hint = f" {pickled[0]} is a pickle and never read; convert it." if pickled else ""
        raise ModelError(f"{folder} has no weights: neither {' nor '.join(_WEIGHTS)}.{hint}")
    encoder = Encoder(load_tokenizer(folder))
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=dtype,
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
    share.spread(getattr(model, model.base_model_prefix).layers)  # the whole may not fit there
    model.to(arithmetic_device())
    model.eval()
    if checkpointed:
        _recompute(model)
    return ResidentBase(folder, model, encoder, targets)


def _recompute(model: Any) -> None:
    """Keep block inputs only (Chen et al., 2016, arXiv 1604.06174)."""
    # transformers 5.23 renamed it.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    # It also asks for the embeddings' gradients, which only the reentrant way needs.
    model.disable_input_require_grads()
    # transformers recomputes in training mode only; the dropouts of that mode stay off.
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0


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
