"""LoRA folders combined into one, a layer at a time: neither memory nor the result depends on how
many layers there are, and memory not on how many folders."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hub.aggregation.contract import AggregationError, Factors, FactorsUpdate, ProductRule
from hub.aggregation.layers import Layers
from hub.aggregation.product_sum import ProductSum, double
from hub.errors import HubError
from hub.offline.lora_folder import LoraFolder
from wire.codecs.contract import Shape
from wire.peft_folder import write_lora


def aggregate(
    folders: Sequence[Path], weights: Sequence[float], rule: ProductRule, rank: int, out: Path
) -> float:
    """Combine LoRA folders and write the outcome; all of it or nothing.

    Args:
        folders: of PEFT, at least one.
        weights: of each; only the ratios matter.
        rule: how they are combined.
        rank: of the outcome's factors, in every layer.
        out: a folder that isn't there yet.

    Returns:
        ‖B A − Σ wₖ sₖ Bₖ Aₖ‖ / ‖Σ wₖ sₖ Bₖ Aₖ‖ over all layers together, in the Frobenius norm,
        with weights that sum to 1 and PEFT's scales sₖ; what is written is compared with what was
        read, in float64. 0 if the sum is zero.

    Raises:
        AggregationError: the folders don't belong together.
        MalformedError: one is not a plain LoRA adapter, or holds NaN or infinite values.
        HubError: something can't be read or written.
    """
    try:
        adapters = [LoraFolder(folder) for folder in folders]
        work = _Aggregation(adapters, weights, rule, rank)
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, so that the last step is a rename.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
            made = Path(temporary) / "folder"
            config = adapters[0].config
            write_lora(
                made,
                work.layers,
                config.base_model_name_or_path or "",
                shapes=work.layers.shapes,
                revision=config.revision,
            )
            made.rename(out)
    except OSError as error:
        raise HubError(f"{error.filename or out}: {error.strerror or error}.") from error
    return work.relative_error()


class _Aggregation:
    """One run over all layers, and how far each came from the exact sum."""

    def __init__(
        self,
        adapters: Sequence[LoraFolder],
        weights: Sequence[float],
        rule: ProductRule,
        rank: int,
    ) -> None:
        _check_alike(adapters)
        self._adapters = adapters
        self._weights = [weight / math.fsum(weights) for weight in weights]
        self._rule = rule
        self._rank = rank
        self._norms: dict[str, tuple[float, float]] = {}  # of the difference and of the exact sum
        shapes: dict[str, Shape] = {}
        for target, (out, width) in adapters[0].shapes.items():
            shapes[f"{target}.lora_A"] = (rank, width)
            shapes[f"{target}.lora_B"] = (out, rank)
        self.layers = Layers(shapes, self._layer)

    def relative_error(self) -> float:
        """Return the error over all layers that were made."""
        away = math.hypot(*(norm for norm, _ in self._norms.values()))
        whole = math.hypot(*(norm for _, norm in self._norms.values()))
        return away / whole if whole else 0.0

    def _layer(self, target: str) -> Factors:
        out, width = self._adapters[0].shapes[target]
        # Nothing to start from: each folder is an update of an adapter of zeros that has room for
        # its rank.
        room = max(self._rank, *(one.config.rank(target) for one in self._adapters))
        nothing = Factors(np.zeros((room, width), np.float32), np.zeros((out, room), np.float32))
        made = self._rule.combine(nothing, _Updates(self, target)).leading(self._rank)
        self._norms[target] = self._compare(target, made)
        return made

    def updates(self, target: str) -> Iterator[FactorsUpdate]:
        """Yield a layer of each folder, read now."""
        for weight, adapter in zip(self._weights, self._adapters, strict=True):
            yield FactorsUpdate(weight, adapter.factors(target))

    def _compare(self, target: str, made: Factors) -> tuple[float, float]:
        out, width = self._adapters[0].shapes[target]
        total = ProductSum(out, width)
        for weight, adapter in zip(self._weights, self._adapters, strict=True):
            a, b = adapter.exact(target)
            total.add(weight * b, a)
        exact = total.norm()
        a, b = double(made)
        total.add(-b, a)
        return total.norm(), exact


@dataclass(frozen=True)
class _Updates:
    """A layer of all folders, read anew whenever they are gone through."""

    work: _Aggregation
    target: str

    def __iter__(self) -> Iterator[FactorsUpdate]:
        return self.work.updates(self.target)


def _check_alike(adapters: Sequence[LoraFolder]) -> None:
    """Raise `AggregationError` unless all adapt the same layers of the same base."""
    first = adapters[0]
    for other in adapters[1:]:
        for key in ("base_model_name_or_path", "revision"):
            mine, its = getattr(first.config, key), getattr(other.config, key)
            if mine != its:
                raise AggregationError(
                    f"{other.path} was made for another base: {key} is {its!r}; that of "
                    f"{first.path} is {mine!r}. If both are the same, write it alike in both "
                    "adapter_config.json."
                )
        if other.shapes.keys() != first.shapes.keys():
            odd = min(other.shapes.keys() ^ first.shapes.keys())
            having, lacking = (first, other) if odd in first.shapes else (other, first)
            raise AggregationError(
                f"{having.path} adapts {odd}, {lacking.path} doesn't; only adapters of the same "
                "target modules can be combined."
            )
        for target, shape in first.shapes.items():
            if other.shapes[target] != shape:
                raise AggregationError(
                    f"{target} is {shape[0]} × {shape[1]} (out × in) in {first.path} and "
                    f"{other.shapes[target][0]} × {other.shapes[target][1]} in {other.path}; "
                    "they were made for different bases."
                )
