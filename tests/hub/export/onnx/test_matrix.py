"""How matrices are stored: quanta by hand, and products against numpy."""

import numpy as np
import pytest
from onnx import TensorProto, external_data_helper

pytest.importorskip("onnxruntime", reason="onnxruntime isn't installed: pip install lorikeet[onnx]")

import onnxruntime

from hub.export.onnx.graph import FLOAT, INT64, Graph
from hub.export.onnx.matrix import plan, product, rows


def computed(weight: np.ndarray, bits: int, x: np.ndarray, ids: np.ndarray):
    """Return x Wᵀ + 1 and rows of W by ONNX Runtime."""
    graph = Graph()
    matrix = plan(graph, "w", weight.shape, bits, lambda: weight, looked_up=True)
    graph.input("x", FLOAT, ("n", weight.shape[1]))
    graph.input("ids", INT64, ("m",))
    bias = graph.constant(np.ones(len(weight), np.float32), "bias")
    graph.output("y", product(graph, "x", matrix, bias), ("n", len(weight)))
    graph.output("r", rows(graph, matrix, "ids"), ("m", weight.shape[1]))
    model = graph.model("none", {})
    arrays = graph.planned[0].make()
    for tensor, values in zip(graph.planned[0].tensors, arrays, strict=True):
        for name, _ in tensor.names:
            held = next(one for one in model.graph.initializer if one.name == name)
            held.raw_data = values.tobytes()
            held.data_location = TensorProto.DEFAULT
            del held.external_data[:]
            assert not external_data_helper.uses_external_data(held)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return arrays, session.run(["y", "r"], {"x": x, "ids": ids})


@pytest.mark.parametrize(("bits", "most"), [(32, 1e-6), (16, 1e-3), (8, 0.02), (4, 0.2)])
def test_products_and_rows_are_near_the_matrixs_own(bits: int, most: float) -> None:
    rng = np.random.default_rng(0)
    weight, x = (rng.normal(size=(n, 64)).astype(np.float32) for n in (48, 3))
    _, (y, r) = computed(weight, bits, x, np.array([7, 0]))
    wanted = x @ weight.T + 1
    assert np.linalg.norm(y - wanted) <= most * np.linalg.norm(wanted)
    assert np.linalg.norm(r - weight[[7, 0]]) <= most * np.linalg.norm(weight[[7, 0]])


def test_four_bits_by_hand() -> None:
    """The greatest magnitude, -8, is quantum 0 at scale 1; number 0 of a pair is the lower half."""
    weight = np.zeros((1, 32), np.float32)
    weight[0, :3] = [-8.0, 7.0, 1.0]
    (quanta, scales), (_, found) = computed(weight, 4, np.zeros((1, 32), np.float32), np.array([0]))
    assert scales.tolist() == [[1.0]]
    # -8 + 8 = 0, 7 + 8 = 15, 1 + 8 = 9, and 8 for 0.
    assert quanta[0, 0, :3].tolist() == [0xF0, 0x89, 0x88]
    np.testing.assert_array_equal(found, weight)


def test_eight_bits_by_hand() -> None:
    """The scale is the greatest magnitude over 127, the zero point 128."""
    weight = np.zeros((1, 32), np.float32)
    weight[0, :2] = [127.0, -3.0]
    (quanta, scales), (_, found) = computed(weight, 8, np.zeros((1, 32), np.float32), np.array([0]))
    assert scales.tolist() == [[1.0]]
    assert quanta[0, 0, :3].tolist() == [255, 125, 128]
    np.testing.assert_array_equal(found, weight)
