"""The six families whose blocks are our own: no transformers, and no more memory than must be."""

from collections.abc import Mapping
from pathlib import Path

import torch

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.block import Block
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.head import Head
from edge_agent.training.blockwise.linear import Slot
from edge_agent.training.blockwise.operations import rms_norm
from edge_agent.training.blockwise.rope import Rope
from edge_agent.training.blockwise.spec import Spec, spec_of
from wire.errors import MalformedError
from wire.shape import target_modules

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"


class KnownArchitecture:
    """See `architecture.Architecture`.

    Args:
        weights: the base's file.
        device: where the arithmetic is done.
        path: of the base, for messages.

    Raises:
        ModelError: the file and its configuration contradict each other.
    """

    flipped: frozenset[str] = frozenset()

    def __init__(self, weights: Weights, device: torch.device, path: Path) -> None:
        try:
            self.targets = target_modules(weights.config)
        except MalformedError as error:
            raise ModelError(f"{path}: {error}") from error
        spec = spec_of(weights.config)
        _check_shapes(weights, spec, self.targets, path)
        self.weights = weights
        self.width = spec.hidden
        self.heads = (spec.kv_heads, spec.head_dim)
        self.ends = KnownEnds(spec, weights, device)
        tied = HEAD not in weights.shapes
        self.head = Head(weights, EMBEDDING if tied else HEAD, cap=spec.logit_cap)
        self._spec = spec
        self._device = device

    def blocks(self, slots: Mapping[str, Slot]) -> list[Block]:
        """Return the blocks in order."""
        rope = Rope(self.weights.config, self._spec.head_dim)
        return [
            Block(index, self._spec, self.weights, rope, slots, device=self._device)
            for index in range(self._spec.layers)
        ]


class KnownEnds:
    """Embedding and last norm; see `architecture.Ends`.

    Args:
        spec: of the model.
        weights: its file.
        device: where the arithmetic is done.
    """

    def __init__(self, spec: Spec, weights: Weights, device: torch.device) -> None:
        self._spec = spec
        self._weights = weights
        self._device = device
        self._norm = weights.vector(NORM).add_(spec.norm_offset).to(device)

    def enter(self, ids: torch.Tensor, prompt: torch.Tensor | None) -> torch.Tensor:
        """Return the first block's input, (rows * (positions + tokens), hidden)."""
        rows, tokens = ids.shape
        found = self._weights.rows(EMBEDDING, ids.reshape(-1)).to(self._device)
        if self._spec.embed_scale != 1.0:
            # Rounded first, as the families' own code does.
            found.mul_(torch.tensor(self._spec.embed_scale, dtype=found.dtype))
        if prompt is None:
            return found
        front = prompt.to(found).expand(rows, -1, -1)
        whole = torch.cat([front, found.view(rows, tokens, -1)], dim=1)
        return whole.view(-1, found.shape[1])

    def leave(self, x: torch.Tensor, rows: int, places: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Return what the head takes, (n, hidden)."""
        return rms_norm(x[places], self._norm, self._spec.eps)


def _check_shapes(
    weights: Weights, spec: Spec, targets: Mapping[str, tuple[int, int]], path: Path
) -> None:
    expected = {f"{name}.weight": shape for name, shape in targets.items()}
    expected[EMBEDDING] = (spec.vocab, spec.hidden)
    for name, shape in expected.items():
        if weights.shapes.get(name) != shape:
            raise ModelError(
                f"{path}: {name} is {weights.shapes.get(name)}; its configuration says {shape}. "
                "Fetch or export the model again."
            )
