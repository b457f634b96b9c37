"""Norm and gate with backward passes of their own, which keep no more than their inputs.

What ordinary autograd would keep of them is computed again (MeSP, arXiv 2602.13069, section 3).
All arithmetic inside is float32, whatever the type of inputs and outputs.
"""

from typing import Any

import torch
from torch.autograd.function import FunctionCtx, once_differentiable


class _RmsNorm(torch.autograd.Function):
    """y = x / rms(x) * w (Zhang and Sennrich, 2019, arXiv 1910.07467); w is frozen."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        wide = x.float()
        inverse = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)  # (..., 1)
        ctx.save_for_backward(x, inverse)
        ctx.weight = weight
        return (wide * inverse).mul_(weight).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        x, inverse = ctx.saved_tensors
        unit = x.float().mul_(inverse)
        scaled = gradient.float() * ctx.weight
        along = (scaled * unit).mean(-1, keepdim=True)
        result = scaled.sub_(unit.mul_(along)).mul_(inverse)
        return result.to(gradient.dtype), None, None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return the norm of the last dimension.

    Args:
        x: (..., size).
        weight: (size,) float32, frozen.
        eps: added to the mean square.
    """
    result: torch.Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return result


class _Gate(torch.autograd.Function):
    """y = act(gate) * up (Shazeer, 2020, arXiv 2002.05202)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, gate: torch.Tensor, up: torch.Tensor, activation: str
    ) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation = activation  # type: ignore[attr-defined]
        return _act(gate, activation).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        gate, up = ctx.saved_tensors
        of_up = _act(gate, ctx.activation).mul_(gradient)
        # In place: the gradient was made by the layer behind this one, and nobody else has it.
        of_gate = gradient.mul_(up)
        _through_act(of_gate, gate, ctx.activation)
        return of_gate, of_up, None


class _FusedGate(torch.autograd.Function):
    """The same where gate and up are one tensor: autograd would fill up each one's gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, both: torch.Tensor, activation: str) -> torch.Tensor:
        ctx.save_for_backward(both)
        ctx.activation = activation  # type: ignore[attr-defined]
        gate, up = both.chunk(2, -1)
        return _act(gate, activation).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (both,) = ctx.saved_tensors
        gate, up = both.chunk(2, -1)
        result = torch.empty_like(both)
        of_gate, of_up = result.chunk(2, -1)
        torch.mul(_act(gate, ctx.activation), gradient, out=of_up)
        torch.mul(gradient, up, out=of_gate)
        _through_act(of_gate, gate, ctx.activation)
        return result, None


def _through_act(gradient: torch.Tensor, gate: torch.Tensor, activation: str) -> None:
    """Turn the gradient of act(gate) into the gate's, in place."""
    if activation == "silu":
        torch.ops.aten.silu_backward.grad_input(gradient, gate, grad_input=gradient)
    else:
        torch.ops.aten.gelu_backward.grad_input(
            gradient, gate, approximate="tanh", grad_input=gradient
        )


def _act(gate: torch.Tensor, activation: str) -> torch.Tensor:
    if activation == "silu":
        return torch.nn.functional.silu(gate)
    return torch.nn.functional.gelu(gate, approximate="tanh")


def gated(gate: torch.Tensor, up: torch.Tensor, activation: str) -> torch.Tensor:
    """Return the MLP's product; its gradient is overwritten as the backward pass uses it.

    Args:
        gate: (..., mlp).
        up: (..., mlp).
        activation: ``silu`` or ``gelu_tanh``.
    """
    result: torch.Tensor = _Gate.apply(gate, up, activation)  # type: ignore[no-untyped-call]
    return result


def gated_halves(both: torch.Tensor, activation: str) -> torch.Tensor:
    """Return the same of gate and up side by side, (..., 2 * mlp)."""
    result: torch.Tensor = _FusedGate.apply(both, activation)  # type: ignore[no-untyped-call]
    return result


class _Begin(torch.autograd.Function):
    """A number whose gradient with respect to a tensor is a given one."""

    @staticmethod
    def forward(ctx: FunctionCtx, output: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        return output.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, one: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ARG004
        (gradient,) = ctx.saved_tensors
        return gradient, None


def begin_backward(output: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return a number whose ``backward()`` begins at a tensor, with a gradient of it.

    ``torch.autograd.backward`` takes a gradient as well, but then checks its shape by way of
    sympy, whose import takes more than 40 MB.

    Args:
        output: requires a gradient.
        gradient: of the same shape.
    """
    result: torch.Tensor = _Begin.apply(output, gradient)  # type: ignore[no-untyped-call]
    return result
