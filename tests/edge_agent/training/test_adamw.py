"""AdamW against torch's own, with gradient clipping."""

import pytest
import torch

from edge_agent.training.adamw import AdamW


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_takes_the_steps_that_torch_takes(weight_decay):
    generator = torch.Generator().manual_seed(1)
    start = [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,))]
    ours = [value.clone().requires_grad_(True) for value in start]
    theirs = [value.clone().requires_grad_(True) for value in start]
    optimizer = AdamW(ours, weight_decay)
    reference = torch.optim.AdamW(theirs, lr=0.01, weight_decay=weight_decay)
    for step in range(5):
        for a, b in zip(ours, theirs, strict=True):
            gradient = torch.randn(a.shape, generator=generator) * 3 * (step + 1)
            a.grad, b.grad = gradient.clone(), gradient.clone()
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        reference.step()
        optimizer.step(lr=0.01, clip=1.0)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, atol=1e-6)
            assert a.grad is None
    assert not torch.allclose(ours[0], start[0], atol=1e-3)


def test_the_first_step_worked_by_hand():
    # One step: m̂ = g, v̂ = g², so the step is lr · sign(g), whatever g's size.
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = AdamW([value], weight_decay=0.5)
    value.grad = torch.tensor([0.03, -0.004])
    optimizer.step(lr=0.1, clip=1.0)
    # Decay first: 1 · 0.95 and 2 · 0.95.
    assert value.tolist() == pytest.approx([0.95 - 0.1, 1.9 + 0.1], abs=1e-5)
