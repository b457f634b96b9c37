"""The loss in pieces of the vocabulary, against PyTorch's over all logits at once."""

import pytest
import torch

from edge_agent.training.blockwise import head as module
from edge_agent.training.blockwise.head import Head


class Matrix:
    """Weights of one matrix in memory, read in pieces of five rows."""

    dtype = torch.float32

    def __init__(self, values):
        self.shapes = {"head": tuple(values.shape)}
        self._values = values

    def pieces(self, name, start=0, stop=None):
        stop = len(self._values) if stop is None else stop
        for first in range(start, stop, 5):
            rows = slice(first, min(first + 5, stop))
            yield rows, self._values[rows]

    def rows(self, name, ids):
        return self._values[ids]


def by_torch(states, wanted, values, cap, *, scale=1.0, bias=0.0):
    states = states.clone().requires_grad_(True)
    logits = (states @ values.T + bias) * scale
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    loss = torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")
    (loss / len(wanted)).backward()
    return float(loss.detach()), states.grad


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("piece", [1, 2**20])
def test_loss_and_gradient_are_those_over_all_logits(monkeypatch, cap, piece):
    monkeypatch.setattr(module, "PIECE_LOGITS", piece)
    monkeypatch.setattr(module, "LEAST_ROWS", 3)
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(7, 6, generator=generator) * 3  # some logits far above others
    values = torch.randn(23, 6, generator=generator)
    wanted = torch.randint(0, 23, (7,), generator=generator)
    loss, gradient = by_torch(states, wanted, values, cap)
    head = Head(Matrix(values), "head", cap=cap)
    found, slope = head.loss(states, wanted, with_gradient=True)
    assert found == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(slope, gradient, atol=1e-6)
    assert head.loss(states, wanted, with_gradient=False) == (found, None)


@pytest.mark.parametrize("cap", [None, 2.0])
def test_bias_and_scale_come_before_the_cap(monkeypatch, cap):
    monkeypatch.setattr(module, "PIECE_LOGITS", 1)
    monkeypatch.setattr(module, "LEAST_ROWS", 3)
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(5, 6, generator=generator)
    values, bias = torch.randn(23, 6, generator=generator), torch.randn(23, generator=generator)
    wanted = torch.randint(0, 23, (5,), generator=generator)
    loss, gradient = by_torch(states, wanted, values, cap, scale=0.25, bias=bias)
    head = Head(Matrix(values), "head", cap=cap, scale=0.25, bias=bias)
    found, slope = head.loss(states, wanted, with_gradient=True)
    assert found == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(slope, gradient, atol=1e-6)


def test_a_greater_logit_in_a_later_piece_scales_down_what_was_summed():
    # Logits 0 and 100, then 200: softmax is 1 on the last, the loss of the first is 200.
    values = torch.tensor([[0.0]] * 4 + [[100.0]] + [[200.0]])
    head = Head(Matrix(values), "head")
    loss, gradient = head.loss(torch.ones(1, 1), torch.tensor([0]), with_gradient=True)
    assert loss == 200.0
    assert gradient.tolist() == [[200.0]]


def test_no_positions_have_no_loss():
    head = Head(Matrix(torch.ones(4, 2)), "head")
    loss, gradient = head.loss(
        torch.empty(0, 2), torch.empty(0, dtype=torch.int64), with_gradient=True
    )
    assert loss == 0.0
    assert gradient.shape == (0, 2)
