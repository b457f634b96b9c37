"""The frozen directions of cores: leading singular vectors of each base matrix, kept in a file.

LoRA-XS (arXiv 2405.17604) takes them from a full SVD. Here they come from a randomised subspace
iteration (Halko, Martinsson and Tropp, 2011, arXiv 0909.4061, algorithm 4.4), which reads the
matrix a few times in pieces and holds no more than some columns of it.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.errors import ModelError
from edge_agent.training.blockwise.contract import Weights
from edge_agent.training.blockwise.linear import Slot, spans
from edge_agent.training.blockwise.safetensors_weights import SafetensorsWeights
from wire.safetensors_writer import write_safetensors

#: More columns than are wanted, and rounds of iteration: Halko et al., section 1.6.
_EXTRA, _ROUNDS = 8, 2


def open_directions(
    weights: Weights,
    targets: Mapping[str, tuple[int, int]],
    side: int,
    path: Path,
    flipped: frozenset[str] = frozenset(),
) -> Weights:
    """Return the directions of a base's matrices, computed once and kept in the cache folder.

    Args:
        weights: the base's file.
        targets: (out, in) by module path.
        side: how many directions of each matrix.
        path: of the base.
        flipped: targets whose matrix is stored as (in, out).

    Returns:
        ``{target}.V`` (side, in) with rows of unit norm; ``{target}.U`` (out, side) with columns
        of norm sqrt(out), so that a step on a core moves outputs as far as one on a LoRA factor.

    Raises:
        ModelError: the cache folder can't be written.
    """
    file = _cache() / f"{_key(path, weights.dtype, side)}.safetensors"
    if not file.is_file():
        try:
            _write(file, weights, targets, side, flipped)
        except OSError as error:
            raise ModelError(
                f"{file.parent} can't be written ({error.strerror}); the directions of cores are "
                "kept there. Set XDG_CACHE_HOME."
            ) from error
    return SafetensorsWeights.open({}, [file], weights.dtype)


class Folded(Mapping[str, NDArray[np.float32]]):
    """Cores as LoRA factors: A = V, B = U R; made when they are asked for, and not kept.

    Args:
        slots: those with a core, by module path.
    """

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self._slots = slots

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        target, _, factor = name.rpartition(".")
        slot = self._slots[target]
        if slot.core is None or slot.directions is None:
            raise KeyError(name)
        core = slot.core.detach().float()
        pair = slot.directions.read(core)
        found = pair.down if factor == "lora_A" else pair.up @ core
        return found.cpu().numpy()

    def __iter__(self) -> Iterator[str]:
        return (f"{target}.{factor}" for target in self._slots for factor in ("lora_A", "lora_B"))

    def __len__(self) -> int:
        return 2 * len(self._slots)


def leading_directions(weights: Weights, name: str, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the leading singular vectors of a matrix: (out, side) and (side, in), float32.

    Args:
        weights: the base's file.
        name: of the matrix.
        side: how many.
    """
    out, inputs = weights.shapes[name]
    columns = min(side + _EXTRA, out, inputs)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    basis = torch.randn(inputs, columns, generator=generator)
    for _ in range(_ROUNDS):
        basis = torch.linalg.qr(basis)[0]
        basis = _down(weights, name, torch.linalg.qr(_up(weights, name, basis))[0])
    basis = torch.linalg.qr(basis)[0]  # (in, columns)
    left, _, right = torch.linalg.svd(_up(weights, name, basis), full_matrices=False)
    return left[:, :side], (basis @ right.T).T[:side]


def _up(weights: Weights, name: str, basis: torch.Tensor) -> torch.Tensor:
    """Return W basis, (out, columns) float32."""
    narrow = basis.to(weights.dtype)
    return torch.cat([(piece @ narrow).float() for _, piece in spans(weights, name)])


def _down(weights: Weights, name: str, basis: torch.Tensor) -> torch.Tensor:
    """Return Wᵀ basis, (in, columns) float32."""
    narrow = basis.to(weights.dtype)
    total = torch.zeros(weights.shapes[name][1], basis.shape[1])
    for rows, piece in spans(weights, name):
        total += (piece.T @ narrow[rows]).float()
    return total


def _write(
    file: Path,
    weights: Weights,
    targets: Mapping[str, tuple[int, int]],
    side: int,
    flipped: frozenset[str],
) -> None:
    entries: dict[str, tuple[str, tuple[int, int]]] = {}
    code = {torch.bfloat16: "BF16", torch.float32: "F32"}[weights.dtype]
    for target, (out, inputs) in targets.items():
        if side > min(out, inputs):
            raise ModelError(
                f"a core of side {side} was asked for; {target} has {min(out, inputs)}."
            )
        entries |= {f"{target}.U": (code, (out, side)), f"{target}.V": (code, (side, inputs))}

    def data() -> Iterator[memoryview]:
        for target, (out, _) in targets.items():
            left, right = leading_directions(weights, f"{target}.weight", side)
            if target in flipped:
                left, right = right.T, left.T
            for part in (left * out**0.5, right):
                narrow = part.to(weights.dtype).contiguous()
                yield narrow.view(torch.uint8).numpy().data

    file.parent.mkdir(parents=True, exist_ok=True)
    # Agents of one machine may make the same ones at once.
    mine = file.with_name(f"{file.stem}.{os.getpid()}")
    write_safetensors(mine, entries, data())
    mine.replace(file)


def _key(path: Path, dtype: torch.dtype, side: int) -> str:
    """Name a base by what changes when it does, without reading all of it."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    told = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    text = "\n".join([str(path.resolve()), str(dtype), str(side), *told])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "lorikeet" / "directions"
