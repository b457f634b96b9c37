"""The proximal term by hand, and against a device that would otherwise run away."""

import pytest
import torch

from edge_agent.training.proximal import Proximal


def test_the_gradient_grows_by_mu_times_the_way_from_the_start() -> None:
    value = torch.tensor([1.0, 2.0, 3.0])
    proximal = Proximal([value], 0.5)
    value += torch.tensor([2.0, 0.0, -4.0])
    value.grad = torch.tensor([1.0, 1.0, 1.0])
    proximal.add()
    assert value.grad.tolist() == [2.0, 1.0, -1.0]


def test_a_gradient_may_be_narrower_than_its_parameter() -> None:
    value = torch.zeros(3, requires_grad=True)
    value.grad_dtype = torch.bfloat16
    proximal = Proximal([value], 1.0)
    with torch.no_grad():
        value += 2.0
    value.grad = torch.ones(3, dtype=torch.bfloat16)
    proximal.add()
    assert value.grad.dtype == torch.bfloat16
    assert value.grad.tolist() == [3.0, 3.0, 3.0]


def test_without_mu_nothing_is_kept_or_added() -> None:
    value = torch.ones(3)
    proximal = Proximal([value], 0.0)
    value += 1.0
    value.grad = torch.ones(3)
    proximal.add()
    assert value.grad.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("steps", [1, 3, 50])
def test_steps_follow_the_papers_objective(steps: int) -> None:
    """On F(w) = g w with rate h the way is −h g (1 − (1 − h μ)ˢ) / (h μ) after s steps."""
    rate, mu, slope = 0.1, 2.0, 3.0
    value = torch.tensor([5.0], dtype=torch.float64)
    proximal = Proximal([value], mu)
    for _ in range(steps):
        value.grad = torch.tensor([slope], dtype=torch.float64)
        proximal.add()
        value -= rate * value.grad
    moved = -slope * (1 - (1 - rate * mu) ** steps) / mu
    assert float(value[0]) == pytest.approx(5.0 + moved)
