"""Any decoder of transformers, gone through block by block over its file.

Its own code computes everything but the products with matrices: those are `linear.Linear`, read
from the file as they are used.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.around import Around
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.filling import fill
from edge_agent.training.blockwise.generic_block import GenericBlock
from edge_agent.training.blockwise.head import Head
from edge_agent.training.blockwise.linear import Linear, Slot
from edge_agent.training.blockwise.renamed import under_module_names
from edge_agent.training.blockwise.skeleton import build, renaming
from edge_agent.training.blockwise.trial import examine


class GenericArchitecture:
    """See `architecture.Architecture`.

    Args:
        weights: the base's file.
        device: where the arithmetic is done.
        path: of the base, for messages.

    Raises:
        ModelError: it is no decoder that can be gone through block by block, or its file and its
            configuration contradict each other.
    """

    heads: tuple[int, int] | None = None

    def __init__(self, weights: Weights, device: torch.device, path: Path) -> None:
        try:
            self._open(weights, device)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    def blocks(self, slots: Mapping[str, Slot]) -> list[GenericBlock]:
        """Return the blocks in order."""
        skeleton = self._skeleton
        matrices: list[list[str]] = [[] for _ in skeleton.blocks]
        for path, layer in skeleton.layers.items():
            linear = Linear(
                weights=self.weights,
                name=path,
                out=layer.out,
                bias=layer.module.bias,
                slot=slots[path],
                flipped=layer.flipped,
            )
            layer.module.forward = _forward(linear)
            index = path.removeprefix(f"{skeleton.root}.").partition(".")[0]
            matrices[int(index)].append(f"{path}.weight")
        return [GenericBlock(index, self.ends, names) for index, names in enumerate(matrices)]

    def _open(self, weights: Weights, device: torch.device) -> None:
        skeleton = build(weights.config, weights.dtype)
        model = skeleton.model
        self._skeleton = skeleton
        self.weights = under_module_names(
            weights, model.state_dict().keys(), model.base_model_prefix, renaming(model)
        )
        head = fill(skeleton, self.weights, device)
        form = examine(skeleton, device, weights.dtype)
        embedding = f"{skeleton.embedding}.weight"
        self.targets = {path: (one.out, one.inputs) for path, one in skeleton.layers.items()}
        self.flipped = frozenset(path for path, one in skeleton.layers.items() if one.flipped)
        self.width = self.weights.shapes[embedding][1]
        self.ends = Around(
            skeleton, lambda ids: self.weights.rows(embedding, ids), device, form.returned
        )
        bias = model.get_submodule(skeleton.head).bias
        self.head = Head(
            self.weights,
            head,
            cap=form.cap,
            scale=form.scale,
            bias=None if bias is None else bias.detach().float(),
        )


def _forward(linear: Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a linear layer's forward, (..., in) to (..., out)."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        found = linear(x.reshape(-1, x.shape[-1]))
        return found.view(*x.shape[:-1], linear.out)

    return forward
