"""Clipping against torch's own, and by hand."""

import pytest
import torch

from edge_agent.training.clipping import scale_of


def leaves(*gradients, dtype=torch.float32):
    found = []
    for gradient in gradients:
        value = torch.zeros(len(gradient), dtype=dtype, requires_grad=True)
        value.grad = torch.tensor(gradient, dtype=dtype)
        found.append(value)
    return found


def test_the_norm_is_that_of_all_gradients_together():
    # 3-4-12-13: the norm is 13, and 6.5 of it are let through.
    assert scale_of(leaves([3.0, 4.0], [12.0]), 6.5) == pytest.approx(0.5)


def test_what_is_small_enough_is_left_as_it_is():
    assert scale_of(leaves([3.0, 4.0]), 5.1) == 1.0
    assert scale_of(leaves([0.0, 0.0]), 1e-3) == 1.0


def test_without_a_bound_nothing_is_looked_at():
    assert scale_of(leaves([float("inf")]), None) == 1.0


def test_parameters_without_a_gradient_do_not_count():
    values = [*leaves([3.0, 4.0]), torch.zeros(2, requires_grad=True)]
    assert scale_of(values, 1.0) == pytest.approx(0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_what_torch_scales_by(dtype):
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(size, generator=generator).tolist() for size in (7, 300)]
    ours = scale_of(leaves(*gradients, dtype=dtype), 0.5)
    theirs = leaves(*gradients)
    torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    expected = float(theirs[1].grad[0]) / gradients[1][0]
    assert ours == pytest.approx(expected, rel=1e-6 if dtype == torch.float32 else 0.01)
