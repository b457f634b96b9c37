"""What all blocks share: how long things are, which position sees which, and their rotation."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from hub.export.onnx.graph import INT64, Graph
from hub.export.onnx.rope import Turns

#: Further back than any text reaches.
_ALL = 2**40


@dataclass(frozen=True)
class Positions:
    """Names of values in the graph.

    Attributes:
        batch, tokens: lengths, (1,); those of a prompt are tokens, too.
        past: room for positions before them, (1,).
        cosines, sines: (batch, tokens, 1, pairs).
        pairs: of a head's numbers that are turned.
        unseen: by window (None for all): added to scores, 0 where a position is seen and -inf
            elsewhere, (batch, 1, 1, tokens, past + tokens).
    """

    batch: str
    tokens: str
    past: str
    cosines: str
    sines: str
    pairs: int
    unseen: dict[int | None, str]


def add_positions(
    graph: Graph,
    *,
    lengths: str,
    batch: str,
    tokens: str,
    past: str,
    turns: Turns,
    windows: Collection[int | None],
) -> Positions:
    """Add them.

    Args:
        graph: they are added to.
        lengths: of the text before, in positions, (batch,).
        batch: (1,).
        tokens: (1,).
        past: room in the keys and values that come in, (1,); what is beyond ``lengths`` isn't seen.
        turns: the model's.
        windows: of its blocks.
    """
    offsets = _counted(graph, tokens)  # (tokens,)
    before = graph.add("Unsqueeze", lengths, graph.constant(np.array([1])))  # (batch, 1)
    places = graph.add("Add", before, offsets)  # (batch, tokens)
    angles = _angles(graph, places, turns)
    scale = graph.constant(np.float32(turns.scale))
    cosines, sines = (
        graph.add(
            "Unsqueeze",
            graph.add("Mul", graph.add(op, angles), scale),
            graph.constant(np.array([2])),
        )
        for op in ("Cos", "Sin")
    )
    room = _counted(graph, past)  # (past,)
    there = graph.add("Less", room, graph.add("Unsqueeze", before, graph.constant(np.array([2]))))
    at = graph.add("Unsqueeze", places, graph.constant(np.array([2])))  # (batch, tokens, 1)
    row = graph.add("Unsqueeze", offsets, graph.constant(np.array([1])))  # (tokens, 1)
    causal = graph.add("LessOrEqual", offsets, row)  # (tokens, tokens)
    square = graph.add("Concat", batch, tokens, tokens, axis=0)
    unseen = {}
    for window in sorted(set(windows), key=str):
        back = graph.constant(np.array(window or _ALL))
        old = graph.add("And", there, graph.add("Greater", room, graph.add("Sub", at, back)))
        new = graph.add("And", causal, graph.add("Greater", offsets, graph.add("Sub", row, back)))
        seen = graph.add("Concat", old, graph.add("Expand", new, square), axis=2)
        added = graph.add(
            "Where", seen, graph.constant(np.float32(0)), graph.constant(np.float32(-np.inf))
        )
        unseen[window] = graph.add("Unsqueeze", added, graph.constant(np.array([1, 2])))
    return Positions(batch, tokens, past, cosines, sines, len(turns.angles), unseen)


def length_of(graph: Graph, value: str, axis: int) -> str:
    """Add the length of one of a value's dimensions, (1,)."""
    return graph.add("Shape", value, start=axis, end=axis + 1)


def _counted(graph: Graph, length: str) -> str:
    """Add 0, 1, ... up to a length (1,)."""
    end = graph.add("Squeeze", length, graph.constant(np.array([0])))
    return graph.add("Range", graph.constant(np.array(0)), end, graph.constant(np.array(1)))


def _angles(graph: Graph, places: str, turns: Turns) -> str:
    """Add angles, (batch, tokens, pairs)."""
    step = graph.constant(turns.angles, "rope.angles")
    if turns.long is not None:
        # Whoever cuts a text in pieces says how long the whole will be.
        told = graph.input("rope_length", INT64, (), np.array(0))
        last = graph.add("ReduceMax", places, keepdims=0)
        reached = graph.add("Add", last, graph.constant(np.array(1)))
        longest = graph.add("Max", reached, told)
        stretched = graph.add("Greater", longest, graph.constant(np.array(turns.original)))
        step = graph.add("Where", stretched, graph.constant(turns.long, "rope.long_angles"), step)
    floats = graph.add("Cast", places, to=TensorProto.FLOAT)
    return graph.add("Mul", graph.add("Unsqueeze", floats, graph.constant(np.array([2]))), step)
