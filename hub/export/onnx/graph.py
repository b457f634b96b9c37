"""A graph that grows node by node, its large tensors outside of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from wire.errors import MalformedError

#: Standard operators of ONNX 1.16 and its file format: every ONNX Runtime since 1.18 has them.
OPSET, IR_VERSION = 21, 10
#: Operators that only ONNX Runtime has.
RUNTIME = "com.microsoft"
#: Where a tensor may begin: the coarsest step at which a system maps files (Windows' 64 KiB).
ALIGNED_BYTES = 64 * 1024

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
_BYTES: dict[int, int] = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.UINT8: 1}


@dataclass(frozen=True)
class Outside:
    """A tensor in the file beside the graph.

    Attributes:
        kind: type of its numbers, as `onnx.TensorProto` counts them.
        names: it is known by in the graph, each with a shape of its own.
    """

    kind: int
    names: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size_bytes(self) -> int:
        """Its bytes in the file."""
        return int(np.prod(self.names[0][1])) * _BYTES[self.kind]


@dataclass(frozen=True)
class Planned:
    """Tensors that are made together, when they are written.

    Attributes:
        tensors: in the order in which ``make`` returns them.
        make: returns their numbers, little-endian and contiguous.
    """

    tensors: tuple[Outside, ...]
    make: Callable[[], Sequence[NDArray[Any]]]


class Graph:
    """Nodes, inputs and outputs so far.

    Attributes:
        planned: what stands outside, in the file's order.
    """

    def __init__(self) -> None:
        self.planned: list[Planned] = []
        self._nodes: list[NodeProto] = []
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._inside: dict[str, TensorProto] = {}
        self._count = 0

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node of one output; return the output's name."""
        return self.add_many(op, 1, *inputs, domain=domain, **attributes)[0]

    def add_many(
        self, op: str, count: int, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node of several outputs; return their names."""
        names = [f"{op}_{self._count + at}" for at in range(count)]
        self._count += count
        self._nodes.append(
            helper.make_node(op, inputs, names, name=names[0], domain=domain, **attributes)
        )
        return names

    def constant(self, values: Any, name: str | None = None) -> str:
        """Return the name of numbers that stand in the graph itself: vectors, shapes, switches.

        Args:
            values: an array of float32 or int64.
            name: None for one that tells the values.
        """
        array = np.asarray(values, order="C")
        if name is None:
            name = f"{array.dtype}_{'_'.join(map(str, array.ravel().tolist()))}_{array.ndim}"
        if name not in self._inside:
            self._inside[name] = numpy_helper.from_array(array, name)
        return name

    def input(
        self, name: str, kind: int, dims: Sequence[int | str], default: NDArray[Any] | None = None
    ) -> str:
        """Add an input, one that may be left out if it has a default; return its name."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(dims)))
        if default is not None:
            self._inside[name] = numpy_helper.from_array(default, name)
        return name

    def output(self, name: str, value: str, dims: Sequence[int | str]) -> None:
        """Give a float32 value to whoever runs the graph."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, FLOAT, list(dims)))

    def model(self, data_file: str, metadata: dict[str, str]) -> ModelProto:
        """Return the graph as a model.

        Args:
            data_file: name of the file with the tensors outside, in the model's folder.
            metadata: keys and values for whoever loads it.
        """
        graph: GraphProto = helper.make_graph(
            self._nodes, "decoder", self._inputs, self._outputs, list(self._inside.values())
        )
        for start, tensor in zip(self.starts(), self._outside(), strict=True):
            for name, shape in tensor.names:
                graph.initializer.append(_reference(name, shape, tensor, data_file, start))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(RUNTIME, 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="lorikeet"
        )
        helper.set_model_props(model, metadata)
        return model

    def starts(self) -> list[int]:
        """Return where each tensor outside begins in its file, in bytes."""
        found, at = [], 0
        for tensor in self._outside():
            found.append(at)
            at += tensor.size_bytes + -tensor.size_bytes % ALIGNED_BYTES
        return found

    def _outside(self) -> list[Outside]:
        return [tensor for planned in self.planned for tensor in planned.tensors]


def _reference(
    name: str, shape: tuple[int, ...], tensor: Outside, data_file: str, start: int
) -> TensorProto:
    reference = TensorProto(name=name, data_type=tensor.kind, dims=shape)
    reference.data_location = TensorProto.EXTERNAL
    places = {"location": data_file, "offset": start, "length": tensor.size_bytes}
    for key, value in places.items():
        reference.external_data.add(key=key, value=str(value))
    return reference


def as_float32(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Return finite numbers of a tensor in float32.

    Raises:
        MalformedError: one isn't.
    """
    found: NDArray[np.float32] = np.ascontiguousarray(values, dtype="<f4")
    if not np.isfinite(found).all():
        raise MalformedError(f"{name} has entries that are NaN or infinite. Leave it out.")
    return found
