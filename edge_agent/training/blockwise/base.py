"""A base model that stays in its file: blocks are read, and expanded, when they are used."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.errors import AdapterError
from edge_agent.loss import Loss
from edge_agent.training.accelerator import arithmetic_device
from edge_agent.training.adapter_check import check
from edge_agent.training.blockwise.architecture import Architecture, DecoderBlock
from edge_agent.training.blockwise.block import Prefix
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.directions import Folded, open_directions
from edge_agent.training.blockwise.known import KnownArchitecture
from edge_agent.training.blockwise.linear import (
    Directions,
    HeldDirections,
    Pair,
    Slot,
    keep_gradients_narrow,
)
from edge_agent.training.blockwise.open import open_weights
from edge_agent.training.blockwise.passes import Passes
from edge_agent.training.contract import Trained
from edge_agent.training.start import CORE, PROMPT, Start, core_start, leading, trailing
from edge_agent.training.tokens import Encoder
from wire.shape import FAMILIES
from wire.trained_factors import only_trained

#: A fresh prefix: small keys and values, that change little and can grow.
_PREFIX_STD = 0.02


class BlockwiseBase:
    """A base model in its file, and its tokenizer.

    Args:
        path: a Hugging Face folder, or a GGUF file.
        dtype: of the arithmetic, bfloat16 or float32.

    Raises:
        ModelError: it can't be used.
    """

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        self._path = path
        # Blocks stream to the accelerator where there is one.
        self._device = arithmetic_device()
        self._file = open_weights(path, dtype)
        try:
            self._model = _architecture(self._file, self._device, path)
        except BaseException:
            self._file.close()
            raise
        self._weights = self._model.weights
        self.targets = self._model.targets
        self.hidden_size = self._model.width
        self._encoder: Encoder | None = None
        self._slots: dict[str, Slot] = {name: Slot() for name in self.targets}
        self._blocks = self._model.blocks(self._slots)
        self._passes = Passes(
            self._model.ends, self._blocks, self._model.head, self._device, self._weights.ahead
        )

    @property
    def encoder(self) -> Encoder:
        """Text to token ids; its tokenizer is read when it is first asked for."""
        if self._encoder is None:
            from edge_agent.training.tokenizer import load_tokenizer

            self._encoder = Encoder(load_tokenizer(self._path))
        return self._encoder

    def place(self, start: Start, trained: Trained) -> "BlockwisePlaced":
        """Put an adapter in place of the one that was there.

        Raises:
            AdapterError: see `edge_agent.training.contract.Base`.
        """
        check(self.hidden_size, self.targets, start, trained)
        self.clear()
        moved: dict[str, torch.Tensor] = {}
        for target in start.shapes:
            moved |= self._fill(target, start, trained)
        if trained.core:
            moved |= self._cores(trained.core)
        if trained.prefix:
            moved |= self._put_prefix(self._fresh_prefix(trained.prefix, trained.seed))
        prompts = {
            name: torch.from_numpy(start.prompt(name)).to(self._device) for name in start.prompts
        }
        prompt = prompts.get(PROMPT)
        if prompts and prompt is None:
            self._put_prefix(prompts)
        if trained.prompt:
            moved |= prompts
        for name, value in moved.items():
            value.requires_grad_(True)
            if name.endswith((".lora_A", ".lora_B", ".core")):
                keep_gradients_narrow(value, self._weights.dtype)
        return BlockwisePlaced(
            self._passes,
            self._blocks,
            self._slots,
            prompt=prompt,
            moved=moved,
            start=start,
            trained=trained,
        )

    def clear(self) -> None:
        """Take the adapter out."""
        for slot in self._slots.values():
            slot.clear()
        for block in self._blocks:
            block.prefix = None

    def close(self) -> None:
        """Give up the file."""
        self._file.close()

    def _fill(self, target: str, start: Start, what: Trained) -> dict[str, torch.Tensor]:
        """Set a target's factors; return those that are trained."""
        slot, rank = self._slots[target], what.rank
        names = [f"{target}.lora_A", f"{target}.lora_B"]
        like = torch.empty(0, dtype=self._weights.dtype, device=self._device)
        if start.rank_of(target) > rank:
            down, up = (torch.from_numpy(trailing(start, name, rank)) for name in names)
            slot.rest = Pair(down, up).cast(like)
        if not rank:
            return {}
        if what.factors == "core":
            u, core = (torch.from_numpy(value) for value in core_start(start, target, rank))
            down = torch.from_numpy(leading(start, names[0], rank))
            slot.directions = HeldDirections(Pair(down, u).cast(like))
            slot.core = core.to(self._device)
            return {target + CORE: slot.core}
        # Copies: a leading part may be a view that keeps the whole factor in memory.
        values = {
            name: torch.from_numpy(np.array(leading(start, name, rank), order="C")).to(self._device)
            for name in names
        }
        moved = only_trained(values, what.factors)
        slot.lead = Pair(*(v if name in moved else v.to(like) for name, v in values.items()))
        return moved

    def _cores(self, side: int) -> dict[str, torch.Tensor]:
        """Set a core in every target, zero at first; return them by name."""
        directions = open_directions(
            self._weights, self.targets, side, self._path, self._model.flipped
        )
        cores: dict[str, torch.Tensor] = {}
        for target, slot in self._slots.items():
            slot.directions = Directions(directions, target)
            slot.core = torch.zeros(side, side, device=self._device)
            cores[f"{target}.core"] = slot.core
        return cores

    def _fresh_prefix(self, tokens: int, seed: int) -> dict[str, torch.Tensor]:
        """Return small random keys and values for every block, (kv_heads, tokens, size)."""
        generator = torch.Generator().manual_seed(seed)
        heads = self._model.heads or (0, 0)
        return {
            name: (torch.randn(heads[0], tokens, heads[1], generator=generator) * _PREFIX_STD).to(
                self._device
            )
            for index in range(len(self._blocks))
            for name in _prefix_names(index)
        }

    def _put_prefix(self, prefix: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Give every block its keys and values; return them.

        Raises:
            AdapterError: they were made for another base, or blocks of this family take none.
        """
        if self._model.heads is None:
            raise AdapterError(
                f"a prefix in every layer was asked for; {self._weights.config['model_type']} "
                f"blocks take none, only those of {', '.join(FAMILIES)} do. Train a soft prompt."
            )
        kv_heads, head_dim = self._model.heads
        given = {(value.shape[0], value.shape[2]) for value in prefix.values()}
        if given != {(kv_heads, head_dim)} or len(prefix) != 2 * len(self._blocks):
            raise AdapterError(
                f"the prefix has {len(prefix) // 2} layers of (heads, size) {sorted(given)}; the "
                f"base has {len(self._blocks)} of {(kv_heads, head_dim)}. It was made for another."
            )
        for index, block in enumerate(self._blocks):
            block.prefix = Prefix(*(prefix[name] for name in _prefix_names(index)))
        return prefix


class BlockwisePlaced:
    """An adapter in a block-wise base; see `edge_agent.training.contract.Placed`."""

    def __init__(
        self,
        passes: Passes,
        blocks: Sequence[DecoderBlock],
        slots: Mapping[str, Slot],
        *,
        prompt: torch.Tensor | None,
        moved: dict[str, torch.Tensor],
        start: Start,
        trained: Trained,
    ) -> None:
        self.trained = moved
        self._passes = passes
        self._blocks = blocks
        self._slots = slots
        self._prompt = prompt
        self._start = start
        self._what = trained

    def evaluate_loss(self, ids: torch.Tensor, labels: torch.Tensor, variant: str) -> Loss:
        """Return the loss of a batch."""
        prompt = self._prompt if variant == "adapter" else None
        with self._bare(off=variant == "base", unprompted=variant != "adapter"):
            return self._passes.evaluate(ids, labels, prompt)

    def backward_loss(
        self,
        ids: torch.Tensor,
        labels: torch.Tensor,
        tokens: int | None = None,
        epsilon: float = 0.0,
    ) -> Loss:
        """Add the gradient of a batch's mean loss per token."""
        alone = self._what.rest == "absent" and self._what.rank > 0
        for slot in self._slots.values():
            slot.alone = alone
        try:
            return self._passes.backward(ids, labels, self._prompt, tokens, epsilon)
        finally:
            for slot in self._slots.values():
                slot.alone = False

    def update(self) -> dict[str, NDArray[np.float32]]:
        """Return the difference to the start, by names on the wire.

        Raises:
            AdapterError: a fresh prefix, and cores between directions of the base, have no place in
                a hub's round.
        """
        if self._what.core or self._what.prefix:
            raise AdapterError("a core of the base or a fresh prefix can't be sent to a hub.")
        found: dict[str, NDArray[np.float32]] = {}
        for name, value in self.trained.items():
            found[name] = value.detach().cpu().numpy() - self._value(name)
        return found

    def _value(self, name: str) -> NDArray[np.float32]:
        """Return what a tensor was at the start."""
        if name in self._start.prompts:
            return self._start.prompt(name)
        if name.endswith(CORE):
            return core_start(self._start, name.removesuffix(CORE), self._what.rank)[1]
        return leading(self._start, name, self._what.rank)

    def values(self) -> Mapping[str, NDArray[np.float32]]:
        """Return what was trained, a core as LoRA factors."""
        if self._what.core or self._what.factors == "core":
            return Folded({name: slot for name, slot in self._slots.items() if slot.directions})
        return {name: value.detach().cpu().numpy() for name, value in self.trained.items()}

    @contextmanager
    def _bare(self, *, off: bool, unprompted: bool) -> Iterator[None]:
        """Leave factors and cores, or prefixes, out for a while."""
        prefixes = [block.prefix for block in self._blocks]
        for slot in self._slots.values():
            slot.off = off
        for block in self._blocks if unprompted else ():
            block.prefix = None
        try:
            yield
        finally:
            for slot in self._slots.values():
                slot.off = False
            for block, prefix in zip(self._blocks, prefixes, strict=True):
                block.prefix = prefix


def _prefix_names(layer: int) -> tuple[str, str]:
    return f"prefix.{layer}.key", f"prefix.{layer}.value"


def _architecture(weights: Weights, device: torch.device, path: Path) -> Architecture:
    family = weights.config.get("model_type")
    if family in FAMILIES:
        return KnownArchitecture(weights, device, path)
    # A late import: transformers costs 120 MB, which the six families never pay.
    from edge_agent.training.blockwise.generic import GenericArchitecture

    return GenericArchitecture(weights, device, path)
