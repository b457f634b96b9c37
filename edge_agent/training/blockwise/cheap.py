"""Stand-ins for a model's matrices, for trials: nothing is read, next to nothing is computed."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from edge_agent.training.blockwise.skeleton import Layer


@contextmanager
def cheap_layers(layers: Mapping[str, Layer]) -> Iterator[set[str]]:
    """Let each number that comes out of a linear layer be one that goes in, or its negative.

    Which one is drawn from the layer's name, so that layers differ.

    Yields:
        the layers that were used, by module path; it grows.
    """
    used: set[str] = set()
    with ExitStack() as stack:
        for path, layer in layers.items():
            stack.enter_context(replaced(layer.module, _stand_in(path, layer, used)))
        yield used


@contextmanager
def replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module compute something else for a while."""
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


def _stand_in(path: str, layer: Layer, used: set[str]) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        used.add(path)
        if x.shape[-1] != layer.inputs:
            raise ValueError(f"{path} is given {x.shape[-1]} numbers; it takes {layer.inputs}")
        # Drawn again each time: kept, they would be megabytes for all layers of a model.
        generator = torch.Generator().manual_seed(zlib.crc32(path.encode()))
        places = torch.randint(layer.inputs, (layer.out,), generator=generator)
        signs = torch.randint(2, (layer.out,), generator=generator) * 2 - 1
        return x[..., places.to(x.device)] * signs.to(x)

    return forward
