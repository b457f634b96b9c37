"""A LoRA folder of PEFT, read a layer at a time, without PEFT or torch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wire.errors import MalformedError
from wire.lora_config import LoraConfig, read_config
from wire.safetensors_header import StoredTensor, read_header
from wire.safetensors_numbers import READABLE, read_numbers

Array = NDArray[np.float32]
Array64 = NDArray[np.float64]

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_FACTORS = {".lora_A.weight": "A", ".lora_B.weight": "B"}


class LoraFolder:
    """What one folder adds to each layer of its base.

    Args:
        path: of the folder.

    Attributes:
        config: of the folder.
        shapes: (out, in) of each layer, by module path.

    Raises:
        MalformedError: it isn't a plain LoRA adapter.
        OSError: a file can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: LoraConfig = read_config(path)
        weights = path / WEIGHTS
        if not weights.is_file():
            hint = " adapter_model.bin is a pickle, and those are never read."
            raise MalformedError(
                f"{path} has no {WEIGHTS}."
                + (hint if (path / "adapter_model.bin").exists() else "")
                + " Save it again with safe_serialization=True."
            )
        self._factors = _sorted(weights, read_header(weights))
        self.shapes = {
            target: self._shape(target, a, b) for target, (a, b) in self._factors.items()
        }

    @property
    def rank(self) -> int:
        """The highest rank of a layer."""
        return max(self.config.rank(target) for target in self.shapes)

    def exact(self, target: str) -> tuple[Array64, Array64]:
        """Return a layer's A, and B with the scale in it, as they stand there.

        Raises:
            MalformedError: an entry is NaN or infinite, or the file was cut off.
            OSError: it can't be read.
        """
        a, b = (self._numbers(target, stored) for stored in self._factors[target])
        return a, b * self.config.scale(target)

    def pair(self, target: str) -> tuple[Array, Array]:
        """Return the same in float32, as devices send and serve it.

        Raises:
            MalformedError, OSError: as `exact`.
        """
        with np.errstate(over="ignore"):
            a, b = (factor.astype(np.float32) for factor in self.exact(target))
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise MalformedError(
                f"{self.path}: {target} has entries beyond what float32 holds. Leave it out."
            )
        return a, b

    def _shape(self, target: str, a: StoredTensor, b: StoredTensor) -> tuple[int, int]:
        rank = self.config.rank(target)
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
            raise MalformedError(
                f"{self.path}: the factors of {target} have shapes {list(a.shape)} and "
                f"{list(b.shape)}; its configuration says rank {rank}, so ({rank}, in) and "
                f"(out, {rank}). Was it made for another configuration?"
            )
        return b.shape[0], a.shape[1]

    def _numbers(self, target: str, stored: StoredTensor) -> Array64:
        try:
            values = read_numbers(self.path / WEIGHTS, stored)
        except MalformedError as error:
            raise MalformedError(f"{self.path}: {target}: {error}") from error
        if not np.isfinite(values).all():
            raise MalformedError(
                f"{self.path}: {target} has entries that are NaN or infinite. Leave it out."
            )
        return values.astype(np.float64)


def _sorted(
    path: Path, header: dict[str, StoredTensor]
) -> dict[str, tuple[StoredTensor, StoredTensor]]:
    """Return A and B of each layer, by its module path."""
    found: dict[str, dict[str, StoredTensor]] = {}
    for name, stored in header.items():
        suffix = next((suffix for suffix in _FACTORS if name.endswith(suffix)), None)
        if suffix is None or not name.startswith(_PREFIX):
            raise MalformedError(
                f"{path} holds {name[:200]!r}; only factors of linear layers can be combined."
            )
        if stored.dtype not in READABLE:
            raise MalformedError(
                f"{path}: {name[:200]!r} is {stored.dtype}; read are {', '.join(READABLE)}."
            )
        target = name.removeprefix(_PREFIX).removesuffix(suffix)
        found.setdefault(target, {})[_FACTORS[suffix]] = stored
    for target, pair in found.items():
        if len(pair) != 2:
            raise MalformedError(f"{path} has only {', '.join(pair)} of {target[:200]!r}.")
    if not found:
        raise MalformedError(f"{path} holds no LoRA factors.")
    return {target: (pair["A"], pair["B"]) for target, pair in sorted(found.items())}
