"""Gives a model's skeleton what stays in memory, and checks what stays in the file."""

import re
from typing import Any

import torch
from torch import nn

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.skeleton import Skeleton

#: Tables that old files hold and models compute.
_COMPUTED = r"(inv_freq|masked_bias|attn\.bias|attention\.bias)$"


def fill(skeleton: Skeleton, weights: Weights, device: torch.device) -> str:
    """Read norms, biases and whatever else is small.

    Args:
        skeleton: gets values for all that its `kept` names.
        weights: the base's file, under module names.
        device: where the arithmetic is done.

    Returns:
        the name of the head's matrix, which may be the embedding's.

    Raises:
        ModelError: the file lacks something, or holds something else than the model has.
    """
    head = _check_matrices(skeleton, weights)
    _check_strangers(skeleton, weights)
    model = skeleton.model
    for name, empty in skeleton.kept().items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        if name not in weights.shapes and leaf in module._buffers:
            continue  # a table that the model computes itself
        _check_shape(weights, name, tuple(empty.shape))
        value = _read(weights, name).to(device, empty.dtype)
        if leaf in module._buffers:
            module._buffers[leaf] = value
        else:
            module._parameters[leaf] = nn.Parameter(value, requires_grad=False)
    for module in model.modules():
        for leaf, table in module._buffers.items():
            module._buffers[leaf] = None if table is None else table.to(device)
    embedding: Any = model.get_submodule(skeleton.embedding)
    row = torch.zeros(1, embedding.embedding_dim, dtype=weights.dtype, device=device)
    embedding.weight = nn.Parameter(row, requires_grad=False)
    return head


def _check_matrices(skeleton: Skeleton, weights: Weights) -> str:
    """Check every matrix's shape; return the name of the head's."""
    for path, layer in skeleton.layers.items():
        shape = (layer.inputs, layer.out) if layer.flipped else (layer.out, layer.inputs)
        _check_shape(weights, f"{path}.weight", shape)
    model = skeleton.model
    embedding, head = f"{skeleton.embedding}.weight", f"{skeleton.head}.weight"
    _check_shape(weights, embedding, tuple(model.get_submodule(skeleton.embedding).weight.shape))
    wanted = tuple(model.get_submodule(skeleton.head).weight.shape)
    tied = (
        model.get_submodule(skeleton.head).weight is model.get_submodule(skeleton.embedding).weight
    )
    if tied and head not in weights.shapes:
        head = embedding
    _check_shape(weights, head, wanted)
    return head


def _check_shape(weights: Weights, name: str, wanted: tuple[int, ...]) -> None:
    found = weights.shapes.get(name)
    if found != wanted:
        raise ModelError(
            f"{name} is {found}; its configuration says {wanted}. Fetch or export the model again."
        )


def _check_strangers(skeleton: Skeleton, weights: Weights) -> None:
    """Refuse tensors of blocks that the model doesn't have: it would compute something else."""
    ignored = getattr(skeleton.model, "_keys_to_ignore_on_load_unexpected", None) or []
    passed = re.compile("|".join([_COMPUTED, *ignored]))
    known = skeleton.model.state_dict().keys()
    for name in weights.shapes:
        if name.startswith(f"{skeleton.root}.") and name not in known and not passed.search(name):
            raise ModelError(
                f"it holds {name}, which {weights.config['model_type']} of transformers doesn't "
                "have. Was it made with code of its own? That is never run."
            )


def _read(weights: Weights, name: str) -> torch.Tensor:
    if len(weights.shapes[name]) < 2:
        return weights.vector(name)
    return torch.cat([piece.clone() for _, piece in weights.pieces(name)])
