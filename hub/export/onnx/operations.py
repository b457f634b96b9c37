"""Nodes that blocks are made of: norm, gate, rotation, a linear layer with its adapter."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hub.export.onnx.graph import FLOAT, Graph
from hub.export.onnx.matrix import Matrix, product

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """A linear layer.

    Attributes:
        matrix: W, (out, in).
        bias: name of a constant, (out,), or None.
        a, b: names of the adapter's factors among the graph's inputs.
    """

    matrix: Matrix
    bias: str | None
    a: str
    b: str


def adapter_inputs(graph: Graph, target: str, shape: tuple[int, int]) -> tuple[str, str]:
    """Add inputs for a layer's factors, of rank 0 where nothing is given; return their names."""
    out, width = shape
    a, b, rank = f"{target}.lora_A", f"{target}.lora_B", f"{target}.rank"
    graph.input(a, FLOAT, (rank, width), np.zeros((0, width), np.float32))
    graph.input(b, FLOAT, (out, rank), np.zeros((out, 0), np.float32))
    return a, b


def linear(graph: Graph, x: str, layer: Layer) -> str:
    """Add x Wᵀ + bias + (x Aᵀ) Bᵀ (LoRA, arXiv 2106.09685, its scale in B), (rows, out)."""
    plain = product(graph, x, layer.matrix, layer.bias)
    inner = graph.add("Gemm", x, layer.a, transB=1)  # (rows, rank)
    return graph.add("Gemm", inner, layer.b, plain, transB=1)


def rms_norm(graph: Graph, x: str, weight: str, eps: float) -> str:
    """Add x / rms(x) * weight over the last dimension (arXiv 1910.07467).

    In the steps that ONNX Runtime knows and makes one of.
    """
    squares = graph.add("Pow", x, graph.constant(np.float32(2.0)))
    mean = graph.add("ReduceMean", squares, graph.constant(np.array([-1])), keepdims=1)
    root = graph.add("Sqrt", graph.add("Add", mean, graph.constant(np.float32(eps))))
    return graph.add("Mul", graph.add("Div", x, root), weight)


def activated(graph: Graph, x: str, activation: str) -> str:
    """Add ``silu`` or ``gelu_tanh``."""
    if activation == "silu":
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    return graph.add("Gelu", x, approximate="tanh")


def capped(graph: Graph, x: str, cap: float | None) -> str:
    """Add cap * tanh(x / cap), if there is a cap (Gemma 2, arXiv 2408.00118, section 2)."""
    if cap is None:
        return x
    bent = graph.add("Tanh", graph.add("Div", x, graph.constant(np.float32(cap))))
    return graph.add("Mul", bent, graph.constant(np.float32(cap)))


def part(graph: Graph, x: str, start: int, stop: int) -> str:
    """Add x[..., start:stop]."""
    bounds = [graph.constant(np.array([at])) for at in (start, stop, -1)]
    return graph.add("Slice", x, *bounds)


def rotated(graph: Graph, x: str, cosines: str, sines: str, *, pairs: int, size: int) -> str:
    """Add heads turned by their positions (RoPE, arXiv 2104.09864); number i pairs with i + pairs.

    Args:
        graph: it is added to.
        x: (batch, tokens, heads, size).
        cosines: (batch, tokens, 1, pairs).
        sines: as cosines.
        pairs: that are turned; what stands behind them stays.
        size: of a head.
    """
    first, second = part(graph, x, 0, pairs), part(graph, x, pairs, 2 * pairs)

    def turned(one: str, op: str, other: str) -> str:
        return graph.add(op, graph.add("Mul", one, cosines), graph.add("Mul", other, sines))

    whole = [turned(first, "Sub", second), turned(second, "Add", first)]
    if 2 * pairs < size:
        whole.append(part(graph, x, 2 * pairs, size))
    return graph.add("Concat", *whole, axis=-1)


def vector(graph: Graph, name: str, read: Callable[[str], Array], offset: float = 0.0) -> str:
    """Add a norm's weight or a bias to the graph itself, an offset added to it."""
    return graph.constant(read(name) + np.float32(offset), name)
