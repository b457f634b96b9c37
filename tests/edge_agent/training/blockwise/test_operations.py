"""Norm and gate, against PyTorch's own operations and their autograd."""

import pytest
import torch

from edge_agent.training.blockwise.operations import gated, gated_halves, rms_norm


def drawn(*shape):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def gradients(function, *inputs):
    leaves = [value.clone().requires_grad_(True) for value in inputs]
    result = function(*leaves)
    result.backward(torch.linspace(-1, 1, result.numel()).view(result.shape))
    return [result.detach(), *(leaf.grad for leaf in leaves)]


def test_the_norm_of_three_numbers_by_hand():
    # rms of (2, 0, -2) is sqrt(8 / 3); times weights (1, 1, 3).
    found = rms_norm(torch.tensor([[2.0, 0.0, -2.0]]), torch.tensor([1.0, 1.0, 3.0]), 0.0)
    unit = 2 / (8 / 3) ** 0.5
    assert torch.allclose(found, torch.tensor([[unit, 0.0, -3 * unit]]))


def test_the_norms_gradient_is_autograds():
    weight = drawn(8)
    ours = gradients(lambda x: rms_norm(x, weight, 1e-6), drawn(5, 8))
    theirs = gradients(
        lambda x: torch.nn.functional.rms_norm(x, (8,), weight, eps=1e-6), drawn(5, 8)
    )
    for found, want in zip(ours, theirs, strict=True):
        assert torch.allclose(found, want, atol=1e-6)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_the_gates_gradient_is_autograds(activation):
    def plain(gate, up):
        if activation == "silu":
            return torch.nn.functional.silu(gate) * up
        return torch.nn.functional.gelu(gate, approximate="tanh") * up

    inputs = (drawn(4, 6), drawn(4, 6) + 1)
    ours = gradients(lambda gate, up: gated(gate, up, activation), *inputs)
    theirs = gradients(plain, *inputs)
    for found, want in zip(ours, theirs, strict=True):
        assert torch.allclose(found, want, atol=1e-6)
    product, of_both = gradients(lambda both: gated_halves(both, activation), torch.cat(inputs, -1))
    assert torch.allclose(product, theirs[0], atol=1e-6)
    assert torch.allclose(of_both, torch.cat(theirs[1:], -1), atol=1e-6)


def test_half_precision_comes_out_as_it_went_in():
    x = drawn(3, 8).bfloat16().requires_grad_(True)
    result = rms_norm(x, torch.ones(8), 1e-6)
    result.sum().backward()
    assert result.dtype == x.grad.dtype == torch.bfloat16
