"""A frozen matrix read from its file, with what an adapter adds to it.

``y = W x + b + B' (A' x) + B (A x) + U (R (V x))``: A', B' the frozen rest of the global adapter,
A, B the factors that are trained (Hu et al., 2021, arXiv 2106.09685), R a core that is trained
between frozen directions U, V (LoRA-XS, arXiv 2405.17604). Any of them may be absent.

Only x is kept between the passes, and only where A, B or R are trained; the inner products A x and
V x are computed again (MeSP, arXiv 2602.13069), and W is read again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from edge_agent.training.blockwise.contract import Weights

#: Rows of a matrix that are read, or expanded, at once; in bytes of the compute type.
SPAN_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Pair:
    """Two factors of a low-rank product: ``down`` (rank, in), ``up`` (out, rank)."""

    down: torch.Tensor
    up: torch.Tensor

    def cast(self, like: torch.Tensor) -> "Pair":
        """Return the factors in the type and on the device of another tensor."""
        return Pair(self.down.to(like), self.up.to(like))


@dataclass
class Slot:
    """What an adapter has for one matrix.

    Attributes:
        rest: frozen in place, in the compute type.
        lead: trained, float32 leaves; a factor that is not trained is in the compute type.
        core: (side, side) trained, a float32 leaf.
        directions: V and U of the core.
        off: leave out everything (the base alone is wanted).
        alone: leave out the rest.
    """

    rest: Pair | None = None
    lead: Pair | None = None
    core: torch.Tensor | None = None
    directions: "Directions | HeldDirections | None" = None
    off: bool = False
    alone: bool = False

    @property
    def frozen(self) -> Pair | None:
        """The rest, unless it is left out."""
        return None if self.off or self.alone else self.rest

    def clear(self) -> None:
        """Take everything out."""
        self.rest = self.lead = self.core = self.directions = None
        self.off = self.alone = False


@dataclass(frozen=True)
class Directions:
    """The frozen directions of one matrix, in a file of their own, read when they are used."""

    weights: Weights
    target: str

    def read(self, like: torch.Tensor) -> Pair:
        """Return V (side, in) and U (out, side)."""
        return Pair(
            _whole(self.weights, f"{self.target}.V").to(like),
            _whole(self.weights, f"{self.target}.U").to(like),
        )


@dataclass(frozen=True)
class HeldDirections:
    """The frozen directions of one matrix, in memory."""

    pair: Pair

    def read(self, like: torch.Tensor) -> Pair:
        """Return V (side, in) and U (out, side)."""
        return self.pair.cast(like)


@dataclass(frozen=True)
class Linear:
    """One matrix of the base, by its name in the file, and its slot."""

    weights: Weights
    name: str  # module path
    out: int
    bias: torch.Tensor | None = None
    slot: Slot = field(default_factory=Slot)
    flipped: bool = False  # stored as (in, out), as GPT-2's are

    def __call__(self, x: torch.Tensor, *, needed: bool = True) -> torch.Tensor:
        """Return the layer's output, (n, in) to (n, out).

        Args:
            x: (n, in).
            needed: False where only gradients are wanted, and not the values: then the result
                has no values of its own, and the product is not computed.
        """
        slot = self.slot
        lead = slot.lead if not slot.off else None
        core = slot.core if not slot.off else None
        result: torch.Tensor = _Adapted.apply(  # type: ignore[no-untyped-call]
            x, self, needed, lead and lead.down, lead and lead.up, core
        )
        return result

    def spans(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the matrix in pieces of rows; each is valid until the next one."""
        return spans(self.weights, f"{self.name}.weight")


def spans(weights: Weights, name: str) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yield a matrix in pieces of at most `SPAN_BYTES`."""
    rows, columns = weights.shapes[name]
    step = max(1, SPAN_BYTES // (columns * weights.dtype.itemsize))
    for start in range(0, rows, step):
        yield from weights.pieces(name, start, min(start + step, rows))


def _whole(weights: Weights, name: str) -> torch.Tensor:
    pieces = [piece.clone() for _, piece in weights.pieces(name)]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class _Adapted(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes no names
        ctx: Any,
        x: torch.Tensor,  # (n, in)
        linear: Linear,
        needed: bool,
        down: torch.Tensor | None,
        up: torch.Tensor | None,
        core: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.linear = linear
        # Only what is trained here wants x; a prompt's gradient passes through without it.
        trained = down is not None or core is not None
        ctx.save_for_backward(x if trained else None, down, up, core)
        if not needed:
            return x.new_empty(1).expand(len(x), linear.out)
        result = _frozen(linear, x)
        slot = linear.slot
        if slot.off:
            return result
        if slot.frozen is not None:
            rest = slot.frozen.cast(x)
            result.addmm_(x @ rest.down.T, rest.up.T)
        if down is not None and up is not None:
            result.addmm_(x @ down.to(x).T, up.to(x).T)
        if core is not None and slot.directions is not None:
            directions = slot.directions.read(x)
            result.addmm_(x @ directions.down.T @ core.to(x).T, directions.up.T)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        linear: Linear = ctx.linear
        x, down, up, core = ctx.saved_tensors
        slot = linear.slot
        wanted = ctx.needs_input_grad[0]
        of_x = _backwards(linear, gradient) if wanted else None
        of_down = of_up = of_core = None
        if slot.off:
            return of_x, None, None, None, None, None
        if slot.frozen is not None and of_x is not None:
            rest = slot.frozen.cast(gradient)
            of_x.addmm_(gradient @ rest.up, rest.down)
        if down is not None and up is not None:
            down_, up_ = down.to(x), up.to(x)
            inner = gradient @ up_  # (n, rank)
            if of_x is not None:
                of_x.addmm_(inner, down_)
            if ctx.needs_input_grad[3]:
                of_down = _stored(inner.T @ x, down)
            if ctx.needs_input_grad[4]:
                of_up = _stored(gradient.T @ (x @ down_.T), up)
        if core is not None and slot.directions is not None:
            directions = slot.directions.read(x)
            inner = gradient @ directions.up  # (n, side)
            if of_x is not None:
                of_x.addmm_(inner @ core.to(x), directions.down)
            of_core = _stored(inner.T @ (x @ directions.down.T), core)
        return of_x, None, None, of_down, of_up, of_core


def keep_gradients_narrow(leaf: torch.Tensor, dtype: torch.dtype) -> None:
    """Let a trained leaf's gradient stay in the type in which it is computed.

    A step adds one product to each gradient, so that float32 would only hold the same numbers in
    twice the memory. torch before 2.10 has no such setting; there gradients are float32.
    """
    if hasattr(leaf, "grad_dtype"):
        leaf.grad_dtype = dtype


def _stored(gradient: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    return gradient.to(getattr(leaf, "grad_dtype", None) or leaf.dtype)


def _frozen(linear: Linear, x: torch.Tensor) -> torch.Tensor:
    """Return W x + b, (n, out)."""
    product = _over_rows(linear, x) if linear.flipped else _by_rows(linear, x, linear.out)
    return product if linear.bias is None else product.add_(linear.bias)


def _backwards(linear: Linear, gradient: torch.Tensor) -> torch.Tensor:
    """Return Wᵀ g, (n, in)."""
    if not linear.flipped:
        return _over_rows(linear, gradient)
    inputs, _ = linear.weights.shapes[f"{linear.name}.weight"]
    return _by_rows(linear, gradient, inputs)


def _by_rows(linear: Linear, x: torch.Tensor, count: int) -> torch.Tensor:
    """Return S x of the matrix S as it is stored, of so many rows: each gives a column."""
    result: torch.Tensor | None = None
    for rows, piece in linear.spans():
        part = torch.nn.functional.linear(x, piece.to(x.device))
        if rows.stop - rows.start == count:
            return part
        if result is None:
            result = x.new_empty(len(x), count)
        result[:, rows] = part
    if result is None:
        raise ValueError(f"{linear.name} has no rows")
    return result


def _over_rows(linear: Linear, x: torch.Tensor) -> torch.Tensor:
    """Return Sᵀ x of the matrix S as it is stored: the sum over what each of its rows gives."""
    result: torch.Tensor | None = None
    for rows, piece in linear.spans():
        part = x[:, rows] @ piece.to(x.device)
        result = part if result is None else result.add_(part)
    if result is None:
        raise ValueError(f"{linear.name} has no rows")
    return result
