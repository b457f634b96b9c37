"""SGD against torch's own, with momentum, weight decay and clipping."""

import pytest
import torch

from edge_agent.training.sgd import SGD


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("clip", [1.0, None])
def test_takes_the_steps_that_torch_takes(momentum, weight_decay, clip):
    generator = torch.Generator().manual_seed(1)
    start = [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,))]
    ours = [value.clone().requires_grad_(True) for value in start]
    theirs = [value.clone().requires_grad_(True) for value in start]
    optimizer = SGD(ours, weight_decay, momentum)
    reference = torch.optim.SGD(theirs, lr=0.01, momentum=momentum, weight_decay=weight_decay)
    for step in range(5):
        for a, b in zip(ours, theirs, strict=True):
            gradient = torch.randn(a.shape, generator=generator) * (step + 1)
            a.grad, b.grad = gradient.clone(), gradient.clone()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(theirs, clip)
        reference.step()
        optimizer.step(lr=0.01, clip=clip)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
            assert a.grad is None
    assert optimizer.steps == 5
    assert not torch.allclose(ours[0], start[0], atol=1e-3)


def test_two_steps_worked_by_hand():
    value = torch.tensor([1.0], requires_grad=True)
    optimizer = SGD([value], weight_decay=0.0, momentum=0.5)
    value.grad = torch.tensor([2.0])
    optimizer.step(lr=0.1, clip=None)  # velocity 2: 1 - 0.2
    assert value.item() == pytest.approx(0.8)
    value.grad = torch.tensor([1.0])
    optimizer.step(lr=0.1, clip=None)  # velocity 0.5 · 2 + 1 = 2: 0.8 - 0.2
    assert value.item() == pytest.approx(0.6)


def test_without_momentum_nothing_is_kept():
    values = [torch.zeros(3), torch.zeros(2)]
    assert SGD(values, 0.0).state() == [{}, {}]
    (kept, _) = SGD(values, 0.0, 0.9).state()
    assert kept["velocity"].tolist() == [0, 0, 0]


def test_a_narrow_gradient_moves_a_wide_parameter():
    value = torch.ones(2, requires_grad=True)
    if hasattr(value, "grad_dtype"):
        value.grad_dtype = torch.bfloat16
        value.grad = torch.tensor([1.0, -1.0], dtype=torch.bfloat16)
    else:
        value.grad = torch.tensor([1.0, -1.0])
    SGD([value], 0.0).step(lr=0.5, clip=None)
    assert value.tolist() == [0.5, 1.5]
