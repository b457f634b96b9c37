"""How a base's matrices are stored, and which nodes read them.

4 bits are MatMulNBits of ONNX Runtime's own operators, in blocks of 32 along a row, with the very
numbers of GGUF's Q4_0; so is the head's 8 bits (Q8_0). Sources: docs/ContribOperators.md in
https://github.com/microsoft/onnxruntime, and ggml-quants.c in https://github.com/ggml-org/ggml.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, quants
from numpy.typing import NDArray
from onnx import TensorProto

from hub.export.onnx.graph import RUNTIME, Graph, Outside, Planned, as_float32
from wire.errors import MalformedError

Array = NDArray[np.float32]

#: Numbers with one scale, along a row.
BLOCK = 32
_ROWS = 4096  # that are quantised at a time
_HALF_MOST = float(np.finfo(np.float16).max)
_SCALE_BYTES = 2  # a float16 in front of each block of GGUF's
#: Activations are rounded to 8 bits in blocks, too, as llama.cpp does: 3.5 times as many tokens a
#: second [measured: bench/README.md, Serving].
_EIGHT_BIT_PRODUCTS = 4


@dataclass(frozen=True)
class Matrix:
    """A matrix in the file beside the graph.

    Attributes:
        name: in Hugging Face's layout.
        shape: (out, in).
        bits: 32 and 16 are floating point, 8 and 4 quantised.
    """

    name: str
    shape: tuple[int, int]
    bits: int


def plan(
    graph: Graph,
    name: str,
    shape: tuple[int, int],
    bits: int,
    read: Callable[[], Array],
    *,
    looked_up: bool = False,
) -> Matrix:
    """Add a matrix to the graph's file.

    Args:
        graph: it is added to.
        name: in Hugging Face's layout.
        shape: (out, in).
        bits: 32, 16, 8 or 4; rows that are no multiple of 32 have 16 in place of the latter two.
        read: returns its numbers.
        looked_up: whether its rows are wanted (`rows`).
    """
    if bits < 16 and shape[1] % BLOCK:
        bits = 16
    if bits >= 16:
        kind = TensorProto.FLOAT if bits == 32 else TensorProto.FLOAT16
        tensors: tuple[Outside, ...] = (Outside(kind, ((name, shape),)),)
    else:
        out, blocks, block_bytes = shape[0], shape[1] // BLOCK, BLOCK * bits // 8
        # Products and look-ups want the same bytes in unlike shapes.
        names: list[tuple[str, tuple[int, ...]]] = [(name, (out, blocks, block_bytes))]
        if looked_up:
            names.append((f"{name}.rows", (out, blocks * block_bytes)))
        tensors = (
            Outside(TensorProto.UINT8, tuple(names)),
            Outside(TensorProto.FLOAT, ((f"{name}.scales", (out, blocks)),)),
        )
    graph.planned.append(Planned(tensors, lambda: _stored(as_float32(read(), name), name, bits)))
    return Matrix(name, shape, bits)


def product(graph: Graph, x: str, matrix: Matrix, bias: str | None = None) -> str:
    """Add x Wᵀ + bias; return the name of what it gives.

    Args:
        graph: it is added to.
        x: (rows, in).
        matrix: W.
        bias: (out,), or None.
    """
    if matrix.bits < 16:
        given = graph.add(
            "MatMulNBits", x, matrix.name, f"{matrix.name}.scales", domain=RUNTIME,
            N=matrix.shape[0], K=matrix.shape[1], bits=matrix.bits, block_size=BLOCK,
            accuracy_level=_EIGHT_BIT_PRODUCTS,
        )  # fmt: skip
        return given if bias is None else graph.add("Add", given, bias)
    weight = matrix.name
    if matrix.bits == 16:
        weight = graph.add("Cast", weight, to=TensorProto.FLOAT)
    return graph.add("Gemm", x, weight, *([] if bias is None else [bias]), transB=1)


def rows(graph: Graph, matrix: Matrix, ids: str) -> str:
    """Add a look-up of rows, (..., in) float32; return its name."""
    if matrix.bits < 16:
        return graph.add(
            "GatherBlockQuantized", f"{matrix.name}.rows", ids, f"{matrix.name}.scales",
            domain=RUNTIME, bits=matrix.bits, block_size=BLOCK, gather_axis=0, quantize_axis=1,
        )  # fmt: skip
    found = graph.add("Gather", matrix.name, ids, axis=0)
    return found if matrix.bits == 32 else graph.add("Cast", found, to=TensorProto.FLOAT)


def _stored(values: Array, name: str, bits: int) -> Sequence[NDArray[Any]]:
    if bits == 32:
        return [values]
    most = float(np.abs(values).max())
    if most > _HALF_MOST:
        raise MalformedError(f"{name} has an entry of {most:g}; float16 holds {_HALF_MOST:g}.")
    if bits == 16:
        return [values.astype("<f2")]
    parts = [_quantised(values[at : at + _ROWS], bits) for at in range(0, len(values), _ROWS)]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def _quantised(values: Array, bits: int) -> tuple[NDArray[np.uint8], Array]:
    """Return quanta (rows, blocks, bytes) and scales (rows, blocks)."""
    kind = GGMLQuantizationType.Q4_0 if bits == 4 else GGMLQuantizationType.Q8_0
    blocks = quants.quantize(values, kind).reshape(len(values), values.shape[1] // BLOCK, -1)
    scales = blocks[..., :_SCALE_BYTES].copy().view("<f2")[..., 0].astype("<f4")
    quanta = blocks[..., _SCALE_BYTES:]
    if bits == 8:
        # The zero point is 128 where none is named.
        return quanta ^ np.uint8(0x80), scales
    # GGUF has number 0 beside 16, ONNX Runtime 0 beside 1; the zero point is 8 in both.
    halves = np.concatenate([quanta & np.uint8(0x0F), quanta >> np.uint8(4)], axis=-1)
    return halves[..., 0::2] | (halves[..., 1::2] << np.uint8(4)), scales
