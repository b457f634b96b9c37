"""Attention, against a softmax in float64 that looks at one token after another."""

import math

import pytest
import torch

from edge_agent.training.blockwise import attention
from edge_agent.training.blockwise.attention import attend

ROWS, HEADS, TOKENS, SIZE = 2, 4, 6, 3
PLAIN = {"kv_heads": HEADS, "window": None, "cap": None, "prefix": 0}
CASES = {
    "plain": {},
    "grouped heads": {"kv_heads": 2},
    "one head for all": {"kv_heads": 1},
    "window": {"window": 3},
    "a window of one": {"window": 1},
    "a window wider than the row": {"window": 50},
    "cap": {"cap": 0.7},
    "prefix": {"prefix": 2},
    "window and prefix": {"window": 3, "prefix": 2},
    "a window as wide as prefix and row": {"window": 8, "prefix": 2},
    "window and cap": {"window": 3, "cap": 0.7},
    "all combined": {"kv_heads": 2, "window": 4, "cap": 0.7, "prefix": 3},
}


def drawn(case):
    """Return queries, keys, values, and a gradient of the result."""
    generator = torch.Generator().manual_seed(3)
    seen = case["prefix"] + TOKENS
    shapes = [(HEADS, TOKENS), (case["kv_heads"], seen), (case["kv_heads"], seen), (HEADS, TOKENS)]
    return [torch.randn(ROWS, *shape, SIZE, generator=generator) for shape in shapes]


def naive(q, k, v, *, scale, window, cap, prefix):
    """Return the same by the definition: each token's softmax over the positions it may see."""
    groups = q.shape[1] // k.shape[1]
    heads = []
    for head in range(q.shape[1]):
        keys, values = k[:, head // groups], v[:, head // groups]  # (rows, prefix + tokens, size)
        gathered = []
        for token in range(q.shape[2]):
            own = prefix + token  # the token's position behind the prefix
            first = 0 if window is None else max(0, own - window + 1)
            scores = torch.einsum("rs,rps->rp", q[:, head, token], keys[:, first : own + 1]) * scale
            if cap is not None:
                scores = cap * torch.tanh(scores / cap)
            shares = scores.exp() / scores.exp().sum(1, keepdim=True)
            gathered.append(torch.einsum("rp,rps->rs", shares, values[:, first : own + 1]))
        heads.append(torch.stack(gathered, dim=1))
    return torch.stack(heads, dim=1)


def gradients(function, inputs, of_result):
    leaves = [value.clone().requires_grad_(True) for value in inputs]
    result = function(*leaves)
    result.backward(of_result)
    return [result.detach(), *(leaf.grad for leaf in leaves)]


#: As they are; one head of one row at a time; some; torch's own backward pass.
@pytest.mark.parametrize("sizes", [{}, {"SCORES": 1}, {"SCORES": 100}, {"MOST_PAIRS": 0}])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_definition(name, sizes, monkeypatch):
    for constant, value in sizes.items():
        monkeypatch.setattr(attention, constant, value)
    case = PLAIN | CASES[name]
    *inputs, of_result = drawn(case)
    knobs = {"scale": 0.6, **{key: case[key] for key in ("window", "cap", "prefix")}}
    found = gradients(lambda q, k, v: attend(q, k, v, **knobs), inputs, of_result)
    wanted = gradients(
        lambda q, k, v: naive(q, k, v, **knobs),
        [value.double() for value in inputs],
        of_result.double(),
    )
    for what, ours, theirs in zip(("result", "q", "k", "v"), found, wanted, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=2e-6, msg=what)


def test_two_tokens_by_hand():
    # Scores of the second token: 0 and log 3, so its shares are 1/4 and 3/4; of 4 and 8 it gathers
    # 7. The first sees itself alone.
    q = torch.ones(1, 1, 2, 1)
    k = torch.tensor([0.0, math.log(3)]).view(1, 1, 2, 1)
    v = torch.tensor([4.0, 8.0]).view(1, 1, 2, 1)
    found = attend(q, k, v, scale=1.0, window=None, cap=None, prefix=0)
    torch.testing.assert_close(found.flatten(), torch.tensor([4.0, 7.0]))
    # Capped at log 3, the second score is log 3 · tanh 1.
    e = 3 ** math.tanh(1)
    found = attend(q, k, v, scale=1.0, window=None, cap=math.log(3), prefix=0)
    torch.testing.assert_close(found.flatten(), torch.tensor([4.0, (4 + 8 * e) / (1 + e)]))


@pytest.mark.parametrize("name", CASES)
def test_no_token_sees_a_later_one(name):
    case = PLAIN | CASES[name]
    q, k, v, _ = drawn(case)
    knobs = {"scale": 0.6, **{key: case[key] for key in ("window", "cap", "prefix")}}
    before = attend(q, k, v, **knobs)
    k[:, :, -1], v[:, :, -1] = 9.0, -9.0
    after = attend(q, k, v, **knobs)
    assert torch.equal(before[:, :, :-1], after[:, :, :-1])
    assert not torch.equal(before[:, :, -1], after[:, :, -1])


@pytest.mark.parametrize("name", ["plain", "all combined"])
def test_bfloat16_comes_out_as_it_went_in_and_near(name):
    case = PLAIN | CASES[name]
    *inputs, of_result = (value.bfloat16() for value in drawn(case))
    knobs = {"scale": 0.6, **{key: case[key] for key in ("window", "cap", "prefix")}}
    found = gradients(lambda q, k, v: attend(q, k, v, **knobs), inputs, of_result)
    wanted = gradients(
        lambda q, k, v: naive(q, k, v, **knobs),
        [value.double() for value in inputs],
        of_result.double(),
    )
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.bfloat16
        # Some roundings one after another, of a relative error of 2⁻⁹ at most each.
        assert (ours.double() - theirs).norm() <= 2**-5 * theirs.norm()
