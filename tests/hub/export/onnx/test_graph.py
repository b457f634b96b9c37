"""A graph's nodes, its inputs that may be left out, and where tensors outside begin."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from hub.export.onnx.graph import FLOAT, Graph, Outside, Planned, as_float32
from wire.errors import MalformedError


def test_tensors_outside_begin_where_files_can_be_mapped() -> None:
    graph = Graph()
    small = Outside(TensorProto.FLOAT16, (("small", (3,)),))  # 6 bytes
    shared = Outside(TensorProto.FLOAT, (("one", (2, 128, 128)), ("two", (2, 16384))))  # 128 KiB
    last = Outside(TensorProto.UINT8, (("last", (5,)),))
    graph.planned += [Planned((small, shared), lambda: []), Planned((last,), lambda: [])]
    assert graph.starts() == [0, 65536, 65536 + 131072]
    held = {one.name: one for one in graph.model("there", {"a": "b"}).graph.initializer}
    places = {entry.key: entry.value for entry in held["two"].external_data}
    assert places == {"location": "there", "offset": "65536", "length": "131072"}
    assert held["one"].external_data == held["two"].external_data


def test_an_input_with_a_default_may_be_left_out() -> None:
    from onnx.reference import ReferenceEvaluator

    graph = Graph()
    x = graph.input("x", FLOAT, ("n",))
    y = graph.add("Add", x, graph.constant(np.float32(2.0)))
    graph.output("z", graph.add("Mul", y, graph.constant(np.float32(2.0))), ("n",))
    graph.input("spare", FLOAT, (0,), np.zeros(0, np.float32))
    model = graph.model("none", {})
    onnx.checker.check_model(model)
    # One constant serves both nodes.
    assert [one.name for one in model.graph.initializer] == ["float32_2.0_0", "spare"]
    (found,) = ReferenceEvaluator(model).run(None, {"x": np.array([1.0, 5.0], np.float32)})
    assert found.tolist() == [6.0, 14.0]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(wrong: float) -> None:
    with pytest.raises(MalformedError, match="w has entries that are NaN or infinite"):
        as_float32(np.array([1.0, wrong]), "w")
