"""A layer read from its file: values and every gradient, against plain torch autograd."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edge_agent.training.blockwise import linear as module
from edge_agent.training.blockwise import mapped_weights
from edge_agent.training.blockwise.linear import (
    Directions,
    Linear,
    Pair,
    Slot,
    keep_gradients_narrow,
)
from edge_agent.training.blockwise.safetensors_weights import SafetensorsWeights

ROWS, IN, OUT = 5, 6, 11
NAME = "model.layers.0.mlp.up_proj"
REST, LEAD, SIDE = 2, 3, 4
CASES = {
    "no slot": (),
    "rest": ("rest",),
    "lead": ("lead",),
    "core": ("core",),
    "all together": ("rest", "lead", "core"),
}
narrow_gradients = pytest.mark.skipif(
    not hasattr(torch.empty(0), "grad_dtype"), reason="torch before 2.10 has float32 gradients only"
)


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(100 * seed + sum(shape))
    return torch.randn(shape, generator=generator)


MATRIX = drawn(OUT, IN, seed=1)
BIAS = drawn(OUT, seed=2)
X = drawn(ROWS, IN, seed=3)
OF_RESULT = drawn(ROWS, OUT, seed=4)
FACTORS = {
    "rest": (drawn(REST, IN, seed=5), drawn(OUT, REST, seed=6)),
    "lead": (drawn(LEAD, IN, seed=7), drawn(OUT, LEAD, seed=8)),
    "directions": (drawn(SIDE, IN, seed=9), drawn(OUT, SIDE, seed=10)),
}
CORE = drawn(SIDE, SIDE, seed=11)


def opened(folder: Path, name: str, tensors, dtype):
    path = folder / name / "model.safetensors"
    path.parent.mkdir()
    save_file({key: value.to(dtype).contiguous() for key, value in tensors.items()}, path)
    return SafetensorsWeights.open({}, [path], dtype)


def layer(folder, parts=(), *, bias=False, flipped=False, dtype=torch.float32):
    """Return a layer, and what is trained in it by name."""
    stored = MATRIX.T if flipped else MATRIX
    weights = opened(folder, "base", {f"{NAME}.weight": stored}, dtype)
    slot = Slot()
    leaves: dict[str, torch.Tensor] = {}
    if "rest" in parts:
        slot.rest = Pair(*(value.to(dtype) for value in FACTORS["rest"]))
    if "lead" in parts:
        down, up = (value.clone().requires_grad_(True) for value in FACTORS["lead"])
        slot.lead = Pair(down, up)
        leaves |= {"down": down, "up": up}
    if "core" in parts:
        v, u = FACTORS["directions"]
        found = opened(folder, "directions", {f"{NAME}.V": v, f"{NAME}.U": u}, dtype)
        slot.directions = Directions(found, NAME)
        slot.core = leaves["core"] = CORE.clone().requires_grad_(True)
    made = Linear(weights, NAME, OUT, BIAS.to(dtype) if bias else None, slot, flipped)
    return made, leaves


def by_torch(parts=(), *, bias=False):
    """Return result and gradients of the same by matrices that are whole, in float32."""
    x = X.clone().requires_grad_(True)
    down, up = (value.clone().requires_grad_(True) for value in FACTORS["lead"])
    core = CORE.clone().requires_grad_(True)
    whole = MATRIX
    if "rest" in parts:
        whole = whole + FACTORS["rest"][1] @ FACTORS["rest"][0]
    if "lead" in parts:
        whole = whole + up @ down
    if "core" in parts:
        v, u = FACTORS["directions"]
        whole = whole + u @ core @ v
    result = torch.nn.functional.linear(x, whole, BIAS if bias else None)
    result.backward(OF_RESULT)
    return result.detach(), {"x": x.grad, "down": down.grad, "up": up.grad, "core": core.grad}


def shrink_pieces(monkeypatch, columns):
    """Let a span of a float32 matrix have four rows, and a piece three."""
    monkeypatch.setattr(module, "SPAN_BYTES", 4 * columns * 4)
    monkeypatch.setattr(mapped_weights, "PIECE_BYTES", 3 * columns * 4)


def assert_gradients(x, leaves, wanted):
    for name, leaf in {"x": x, **leaves}.items():
        torch.testing.assert_close(leaf.grad, wanted[name], rtol=1e-5, atol=2e-5, msg=name)


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("flipped", [False, True], ids=["straight", "flipped"])
@pytest.mark.parametrize("bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_autograds(tmp_path, monkeypatch, *, case, bias, flipped, pieces):
    if pieces:
        shrink_pieces(monkeypatch, columns=OUT if flipped else IN)
    found, leaves = layer(tmp_path, CASES[case], bias=bias, flipped=flipped)
    assert (len(list(found.spans())) > 2) == pieces
    x = X.clone().requires_grad_(True)
    result = found(x)
    result.backward(OF_RESULT)
    want, wanted = by_torch(CASES[case], bias=bias)
    torch.testing.assert_close(result.detach(), want, rtol=1e-5, atol=2e-5)
    assert_gradients(x, leaves, wanted)
    assert torch.equal(x.detach(), X)


def test_a_matrix_is_read_span_by_span(tmp_path, monkeypatch):
    found, _ = layer(tmp_path)
    shrink_pieces(monkeypatch, columns=IN)
    read = [(rows.start, rows.stop, piece.clone()) for rows, piece in found.spans()]
    # Eleven rows: 4 = 3 + 1, 4 = 3 + 1, 3.
    assert [one[:2] for one in read] == [(0, 3), (3, 4), (4, 7), (7, 8), (8, 11)]
    assert torch.equal(torch.cat([piece for *_, piece in read]), MATRIX)


@pytest.mark.parametrize("case", CASES)
def test_without_values_the_gradients_are_the_same(case, tmp_path):
    found, leaves = layer(tmp_path, CASES[case], bias=True)
    x = X.clone().requires_grad_(True)
    result = found(x, needed=False)
    assert result.shape == (ROWS, OUT)
    assert result.untyped_storage().nbytes() == X.itemsize  # a single number stands for all
    result.backward(OF_RESULT)
    assert_gradients(x, leaves, by_torch(CASES[case])[1])


def test_a_slot_that_is_off_leaves_the_base_alone(tmp_path):
    found, leaves = layer(tmp_path, CASES["all together"], bias=True)
    found.slot.off = True
    x = X.clone().requires_grad_(True)
    result = found(x)
    result.backward(OF_RESULT)
    want, wanted = by_torch(bias=True)
    torch.testing.assert_close(result.detach(), want, rtol=1e-5, atol=2e-5)
    assert_gradients(x, {}, wanted)
    assert [leaf.grad for leaf in leaves.values()] == [None] * 3


def test_a_slot_that_was_cleared_is_empty_and_on(tmp_path):
    found, _ = layer(tmp_path, CASES["all together"])
    found.slot.off = True
    found.slot.clear()
    assert found.slot == Slot()
    torch.testing.assert_close(found(X), by_torch()[0], rtol=1e-5, atol=2e-5)


def test_the_factors_get_their_gradients_also_where_the_input_wants_none(tmp_path):
    found, leaves = layer(tmp_path, CASES["all together"])
    found(X).backward(OF_RESULT)
    wanted = by_torch(CASES["all together"])[1]
    for name, leaf in leaves.items():
        torch.testing.assert_close(leaf.grad, wanted[name], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("case", "kept"), [("rest", False), ("lead", True), ("core", True)])
def test_the_input_is_kept_only_for_what_is_trained(case, kept, tmp_path):
    found, _ = layer(tmp_path, CASES[case])
    saved: list[torch.Tensor] = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    x = X.clone().requires_grad_(True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found(x)
    assert any(tensor.shape == X.shape and torch.equal(tensor, X) for tensor in saved) == kept


@narrow_gradients
def test_a_gradient_stays_in_the_type_in_which_it_is_computed(tmp_path):
    found, leaves = layer(tmp_path, CASES["all together"], dtype=torch.bfloat16)
    for leaf in leaves.values():
        keep_gradients_narrow(leaf, torch.bfloat16)
    found(X.bfloat16()).backward(OF_RESULT.bfloat16())
    wanted = by_torch(CASES["all together"])[1]
    for name, leaf in leaves.items():
        assert leaf.dtype == torch.float32
        assert leaf.grad.dtype == torch.bfloat16
        # A handful of roundings, of a relative error of 2⁻⁹ at most each.
        assert (leaf.grad.float() - wanted[name]).norm() <= 2**-6 * wanted[name].norm()
    once = {name: leaf.grad.clone() for name, leaf in leaves.items()}
    found(X.bfloat16()).backward(OF_RESULT.bfloat16())
    for name, leaf in leaves.items():  # twice a number needs no rounding
        assert torch.equal(leaf.grad, 2 * once[name])
        assert leaf.grad.dtype == torch.bfloat16


def test_a_gradient_is_as_wide_as_its_leaf_if_nothing_else_is_said(tmp_path):
    found, leaves = layer(tmp_path, CASES["all together"], dtype=torch.bfloat16)
    found(X.bfloat16()).backward(OF_RESULT.bfloat16())
    assert {leaf.grad.dtype for leaf in leaves.values()} == {torch.float32}
