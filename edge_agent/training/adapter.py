"""The global adapter in the model: the device's part to be trained, the rest frozen in place.

Leading start, frozen rest: the global adapter's components stand in order of weight. A device of
rank r trains the r leading ones from where they are; the others stay in the model as they are, so
that the device learns what is missing and not what is known. What it sends is the difference to
its start, which the hub knows too.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_agent.errors import AdapterError
from edge_agent.training.base import Base
from edge_agent.training.lowrank import (
    REST,
    TRAINED,
    LowRankLinear,
    factors,
    inject,
    layers,
    remove,
)
from wire.errors import MalformedError
from wire.manifest import AdapterManifest
from wire.tensors import PackedFile

PROMPT = "prompt"


@dataclass(frozen=True)
class PlacedAdapter:
    """An adapter in a base model.

    Attributes:
        model: the base model, with the adapter's layers in it.
        prompt: the soft prompt, (tokens, hidden), or None.
        trained: what the device trains, by names on the wire.
        start: the values that training started from.
    """

    model: Any
    prompt: torch.Tensor | None
    trained: dict[str, nn.Parameter]
    start: dict[str, torch.Tensor]

    def update(self) -> dict[str, NDArray[np.float32]]:
        """Return the difference to the start, float32 by names on the wire."""
        return {
            name: (value.detach() - self.start[name]).numpy()
            for name, value in self.trained.items()
        }

    @contextmanager
    def without_factors(self) -> Iterator[None]:
        """Switch the LoRA factors off for a while; the soft prompt is the caller's to leave out."""
        found = layers(self.model).values()
        for layer in found:
            layer.off = True
        try:
            yield
        finally:
            for layer in found:
                layer.off = False


def place(
    base: Base,
    manifest: AdapterManifest,
    parts: Mapping[str, Path],
    *,
    rank: int,
    train_prompt: bool,
) -> PlacedAdapter:
    """Put a global adapter into the base model, in place of the one that was there.

    Args:
        base: kept between tasks; its own weights are never changed.
        manifest: what the adapter is made of.
        parts: the adapter's files by sha256.
        rank: how many leading components this device trains; 0 trains none.
        train_prompt: whether it trains the soft prompt.

    Raises:
        AdapterError: the adapter does not fit the base or the request, or a file is not what the
            manifest says.
    """
    _check(base, manifest, rank, train_prompt)
    remove(base.model)
    targets = list(manifest.shapes)
    if rank:
        inject(base.model, TRAINED, rank, targets)
    if manifest.rank > rank:
        inject(base.model, REST, manifest.rank - rank, targets)
    found = layers(base.model)
    try:
        if manifest.rank:
            _fill(found, manifest, parts, rank)
        prompt = _read_prompt(manifest, parts) if manifest.tokens else None
    except (MalformedError, OSError) as error:
        raise AdapterError(f"the adapter of round {manifest.round}: {error}") from error
    trained = factors(found, TRAINED) if rank else {}
    if train_prompt and prompt is not None:
        prompt = nn.Parameter(prompt)
        trained[PROMPT] = prompt
    for value in trained.values():
        value.requires_grad_(True)
    start = {name: value.detach().clone() for name, value in trained.items()}
    return PlacedAdapter(base.model, prompt, trained, start)


def _check(base: Base, manifest: AdapterManifest, rank: int, train_prompt: bool) -> None:
    if rank > manifest.rank:
        raise AdapterError(
            f"rank {rank} was asked for, but the adapter of job {manifest.job} has rank "
            f"{manifest.rank}. A device trains at most that."
        )
    if train_prompt and not manifest.tokens:
        raise AdapterError(f"the adapter of job {manifest.job} has no soft prompt to train.")
    if manifest.tokens and manifest.hidden_size != base.model.config.hidden_size:
        raise AdapterError(
            f"the soft prompt is {manifest.hidden_size} wide; the base model's embeddings are "
            f"{base.model.config.hidden_size}. It was made for another base."
        )
    for target, shape in manifest.shapes.items():
        if base.targets.get(target) != (shape.outputs, shape.inputs):
            raise AdapterError(
                f"the adapter has factors for {target} ({shape.outputs} x {shape.inputs}); in the "
                f"base model it is {base.targets.get(target)}. It was made for another base."
            )


def _fill(
    found: Mapping[str, LowRankLinear],
    manifest: AdapterManifest,
    parts: Mapping[str, Path],
    rank: int,
) -> None:
    """Write each target's components to their places, reading one tensor at a time."""
    trained = factors(found, TRAINED) if rank else {}
    rest = factors(found, REST) if manifest.rank > rank else {}
    with ExitStack() as stack, torch.no_grad():
        slices = [stack.enter_context(file) for file in _lora_files(manifest, parts)]
        for name in manifest.expected_lora(manifest.rank):
            along = 0 if name.endswith(".lora_A") else 1
            # A slice is a range of components: rows of A, columns of B.
            whole = np.concatenate([file.get(name) for file in slices], axis=along)
            lead, tail = np.split(whole, [rank], axis=along)
            if rank:
                trained[name].copy_(torch.from_numpy(lead))
            if rest:
                rest[name].copy_(torch.from_numpy(tail))


def _lora_files(manifest: AdapterManifest, parts: Mapping[str, Path]) -> Iterator[PackedFile]:
    """Open the rank slices, the most important first; ranks are spread evenly over them."""
    slices = sorted(
        (part for part in manifest.parts if part.name == "lora"), key=lambda part: part.slice
    )
    if not slices:
        raise MalformedError(f"rank is {manifest.rank}, but no part holds LoRA factors.")
    each, over = divmod(manifest.rank, len(slices))
    for index, part in enumerate(slices):
        expected = manifest.expected_lora(each + (index < over))
        yield PackedFile.open(_file(parts, part.sha256), expected)


def _read_prompt(manifest: AdapterManifest, parts: Mapping[str, Path]) -> torch.Tensor:
    files = [part.sha256 for part in manifest.parts if part.name == "prompt"]
    if not files:
        raise MalformedError(f"the prompt has {manifest.tokens} tokens, but no part holds it.")
    with PackedFile.open(_file(parts, files[0]), manifest.expected_prompt()) as file:
        return torch.from_numpy(file.get(PROMPT).copy())


def _file(parts: Mapping[str, Path], sha256: str) -> Path:
    if sha256 not in parts:
        raise MalformedError(f"the file of part {sha256[:12]} was not given.")
    return parts[sha256]
