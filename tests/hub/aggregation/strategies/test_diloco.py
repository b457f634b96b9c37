"""DiLoCo's outer step: against PyTorch's Nesterov, and its weights."""

import numpy as np
import pytest
import torch

from hub.aggregation.contract import Trained
from hub.aggregation.server_step import step_tensor
from hub.aggregation.strategies.diloco import STRATEGY


def test_one_step_by_hand() -> None:
    # η = 0.7, β = 0.9: v = Δ, so w moves by 0.7 (1 + 0.9) Δ = 1.33 Δ.
    zero = np.zeros(3, dtype=np.float32)
    one = step_tensor(zero, np.float32([1, -2, 0]), 1.0, STRATEGY.server, None)
    np.testing.assert_allclose(one.value, [1.33, -2.66, 0], rtol=1e-6)


def test_four_rounds_are_those_of_torch() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    outer = torch.optim.SGD([weight], lr=0.7, momentum=0.9, nesterov=True)
    value, kept = np.float32([1, 2, 3]), None
    for difference in ([1, 0, -2], [0.5, 1, 0], [-1, 1, 1], [0, 0, 3]):
        weight.grad = -torch.tensor(difference, dtype=torch.float32)
        outer.step()
        one = step_tensor(value, value + np.float32(difference), 1.0, STRATEGY.server, kept)
        value, kept = one.value, one.kept
        np.testing.assert_allclose(value, weight.detach().numpy(), rtol=1e-5)


def test_each_device_counts_the_same() -> None:
    assert STRATEGY.weights([Trained("a", 1, 0), Trained("b", 900, 0)]) == pytest.approx([0.5, 0.5])


def test_a_device_three_rounds_late_counts_half() -> None:
    assert STRATEGY.weights([Trained("a", 9, 0), Trained("b", 9, 3)]) == pytest.approx(
        [2 / 3, 1 / 3]
    )
