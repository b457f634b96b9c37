"""SCAFFOLD's correction of gradients (Karimireddy et al. 2020, arXiv 1910.06378, algorithm 1).

A device steps along g + c − cᵢ: its own gradient, brought to the mean of all devices' by what both
were about when it last took part. Both come from the hub, in files.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from edge_agent.errors import AdapterError
from wire.errors import MalformedError
from wire.tensors import PackedFile


class Control:
    """What is added to the gradients of some parameters.

    Args:
        trained: the parameters, by names on the wire.
        common: packed c; None: 0.
        own: packed cᵢ; None: 0.

    Raises:
        AdapterError: a file is not of these parameters, or is broken.
    """

    def __init__(
        self, trained: Mapping[str, torch.Tensor], common: Path | None, own: Path | None
    ) -> None:
        expected = {name: tuple(value.shape) for name, value in trained.items()}
        self._pairs = [(value, torch.zeros_like(value)) for value in trained.values()]
        for path, sign in ((common, 1), (own, -1)):
            if path is None:
                continue
            try:
                with PackedFile.open(path, expected) as packed:
                    for name, (_, correction) in zip(trained, self._pairs, strict=True):
                        found = torch.from_numpy(packed.get(name)).to(correction.device)
                        correction.add_(found, alpha=sign)
            except (MalformedError, OSError) as error:
                raise AdapterError(f"a control variate: {error}") from error

    @torch.no_grad()
    def add(self) -> None:
        """Add the correction to the gradients that are there."""
        for value, correction in self._pairs:
            if value.grad is not None:
                value.grad.add_(correction)
