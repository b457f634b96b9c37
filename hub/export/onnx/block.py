"""One decoder block of the known families as nodes (`wire.block_spec` tells what it computes)."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hub.export.onnx.graph import Graph
from hub.export.onnx.operations import (
    Layer,
    activated,
    capped,
    linear,
    part,
    rms_norm,
    rotated,
    vector,
)
from hub.export.onnx.positions import Positions
from wire.block_spec import Spec

Array = NDArray[np.float32]


class Block:
    """A block of a graph.

    Args:
        graph: it is added to.
        index: which one.
        spec: of the model.
        layers: linear layers by module path.
        read: returns a vector of the base by its name.
        positions: shared by all blocks.
    """

    def __init__(
        self,
        graph: Graph,
        index: int,
        spec: Spec,
        *,
        layers: Mapping[str, Layer],
        read: Callable[[str], Array],
        positions: Positions,
    ) -> None:
        self._graph = graph
        self._spec = spec
        self._layers = layers
        self._read = read
        self._positions = positions
        self._root = f"model.layers.{index}"
        self._unseen = positions.unseen[spec.windows[index]]

    def add(self, x: str, key: str, value: str) -> tuple[str, str, str]:
        """Add the block.

        Args:
            x: (batch * tokens, hidden).
            key: of the positions before, turned, (batch, kv_heads, past, size).
            value: as key.

        Returns:
            The block's output, and key and value of these positions, (batch, kv_heads, tokens,
            size).
        """
        graph, spec = self._graph, self._spec
        gathered, new_key, new_value = self._attention(self._norm(x, "input_layernorm"), key, value)
        if spec.sandwich:
            gathered = self._norm(gathered, "post_attention_layernorm")
        middle = graph.add("Add", x, gathered)
        before = "pre_feedforward_layernorm" if spec.sandwich else "post_attention_layernorm"
        fed = self._mlp(self._norm(middle, before))
        if spec.sandwich:
            fed = self._norm(fed, "post_feedforward_layernorm")
        return graph.add("Add", middle, fed), new_key, new_value

    def _attention(self, x: str, past_key: str, past_value: str) -> tuple[str, str, str]:
        graph, spec, at = self._graph, self._spec, self._positions
        groups, size = spec.heads // spec.kv_heads, spec.head_dim
        q, k, v = self._projected(x)
        q, k = (self._turned(one, heads, norm) for one, heads, norm in (
            (q, spec.heads, "q_norm"), (k, spec.kv_heads, "k_norm"),
        ))  # fmt: skip
        v = self._reshaped(v, at.batch, at.tokens, spec.kv_heads, size)
        k, v = (graph.add("Transpose", one, perm=[0, 2, 1, 3]) for one in (k, v))
        # The heads of a group stand below one another, so that keys aren't repeated for each.
        q = self._reshaped(q, at.batch, at.tokens, spec.kv_heads, groups, size)
        q = graph.add("Transpose", q, perm=[0, 2, 3, 1, 4])
        q = graph.add("Mul", q, graph.constant(np.float32(spec.score_scale)))
        q = self._reshaped(q, at.batch, spec.kv_heads, -1, size)
        scores = [
            graph.add("MatMul", q, graph.add("Transpose", one, perm=[0, 1, 3, 2]))
            for one in (past_key, k)
        ]
        shares = self._shares(graph.add("Concat", *scores, axis=-1), groups)
        lengths = graph.add("Concat", at.past, at.tokens, axis=0)
        old, new = graph.add_many("Split", 2, shares, lengths, axis=-1)
        # Past keys and values are used where they lie: joined to the new ones they'd be copied.
        gathered = graph.add(
            "Add", graph.add("MatMul", old, past_value), graph.add("MatMul", new, v)
        )
        gathered = self._reshaped(gathered, at.batch, spec.kv_heads, groups, at.tokens, size)
        gathered = graph.add("Transpose", gathered, perm=[0, 3, 1, 2, 4])
        flat = self._reshaped(gathered, -1, spec.heads * size)
        return self._linear("self_attn.o_proj", flat), k, v

    def _shares(self, scores: str, groups: int) -> str:
        """Add the softmax over what is seen, (batch, kv_heads, groups * tokens, all)."""
        graph, spec, at = self._graph, self._spec, self._positions
        scores = capped(graph, scores, spec.score_cap)
        every = graph.add("Add", at.past, at.tokens)
        apart = self._reshaped(scores, at.batch, spec.kv_heads, groups, at.tokens, every)
        shares = graph.add("Softmax", graph.add("Add", apart, self._unseen), axis=-1)
        return self._reshaped(shares, at.batch, spec.kv_heads, -1, every)

    def _projected(self, x: str) -> tuple[str, str, str]:
        spec = self._spec
        if not spec.fused:
            q, k, v = (self._linear(f"self_attn.{kind}_proj", x) for kind in "qkv")
            return q, k, v
        both = self._linear("self_attn.qkv_proj", x)
        queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
        bounds = (0, queries, queries + keys, queries + 2 * keys)
        q, k, v = (part(self._graph, both, start, stop) for start, stop in pairwise(bounds))
        return q, k, v

    def _turned(self, x: str, heads: int, norm: str) -> str:
        at, size = self._positions, self._spec.head_dim
        x = self._reshaped(x, at.batch, at.tokens, heads, size)
        if self._spec.head_norms:
            x = self._norm(x, f"self_attn.{norm}")
        return rotated(self._graph, x, at.cosines, at.sines, pairs=at.pairs, size=size)

    def _mlp(self, x: str) -> str:
        graph, spec = self._graph, self._spec
        if spec.fused:
            both = self._linear("mlp.gate_up_proj", x)
            gate = part(graph, both, 0, spec.mlp)
            up = part(graph, both, spec.mlp, 2 * spec.mlp)
        else:
            gate, up = self._linear("mlp.gate_proj", x), self._linear("mlp.up_proj", x)
        product = graph.add("Mul", activated(graph, gate, spec.activation), up)
        return self._linear("mlp.down_proj", product)

    def _norm(self, x: str, name: str) -> str:
        path = f"{self._root}.{name}.weight"
        weight = vector(self._graph, path, self._read, self._spec.norm_offset)
        return rms_norm(self._graph, x, weight, self._spec.eps)

    def _linear(self, name: str, x: str) -> str:
        return linear(self._graph, x, self._layers[f"{self._root}.{name}"])

    def _reshaped(self, x: str, *sizes: str | int) -> str:
        graph = self._graph
        if all(isinstance(one, int) for one in sizes):
            return graph.add("Reshape", x, graph.constant(np.array(sizes)))
        parts = [one if isinstance(one, str) else graph.constant(np.array([one])) for one in sizes]
        return graph.add("Reshape", x, graph.add("Concat", *parts, axis=0))
