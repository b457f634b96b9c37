"""A decoder of the known families as one graph.

Inputs (those with a default may be left out):

- ``input_ids`` (batch, tokens): what is read in this run.
- ``past_lengths`` (batch,): how many positions of each row came before.
- ``past.LAYER.key``, ``past.LAYER.value`` (batch, kv_heads, past, size): theirs, of any length that
  holds them; what stands behind a row's length isn't looked at.
- ``places`` (n,): of which positions logits are wanted, counted over all rows of (batch, prompt +
  tokens); default -1, the last one.
- ``prompt`` (front, hidden): a soft prompt's embeddings. They stand in front of the tokens in runs
  where no row has a past; default none.
- ``TARGET.lora_A`` (rank, in), ``TARGET.lora_B`` (out, rank) of each linear layer; default rank 0.
- ``rope_length`` (LongRoPE only): positions that the whole text will have; default those so far.

Outputs: ``logits`` (n, vocabulary); ``new.LAYER.key`` and ``new.LAYER.value`` (batch, kv_heads,
prompt + tokens, size), which whoever runs the graph puts behind the past.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from hub.export.onnx.block import Block
from hub.export.onnx.graph import FLOAT, INT64, Graph
from hub.export.onnx.matrix import Matrix, product, rows
from hub.export.onnx.operations import Layer, adapter_inputs, capped, rms_norm, vector
from hub.export.onnx.positions import add_positions, length_of
from hub.export.onnx.rope import Turns
from wire.block_spec import Spec

Array = NDArray[np.float32]


def add_decoder(
    graph: Graph,
    spec: Spec,
    turns: Turns,
    *,
    matrices: Mapping[str, Matrix],
    embedding: Matrix,
    head: Matrix,
    biases: Mapping[str, str],
    read: Callable[[str], Array],
) -> None:
    """Add a whole model to an empty graph.

    Args:
        graph: whose tensors outside are planned already.
        spec: of the model.
        turns: its rotation.
        matrices: of the blocks' linear layers by module path.
        embedding: (vocabulary, hidden).
        head: (vocabulary, hidden).
        biases: names of their weights by module path.
        read: returns a vector of the base by its name.
    """
    ids = graph.input("input_ids", INT64, ("batch", "tokens"))
    lengths = graph.input("past_lengths", INT64, ("batch",))
    sizes = ("batch", spec.kv_heads, "past", spec.head_dim)
    pasts = [
        tuple(graph.input(f"past.{at}.{kind}", FLOAT, sizes) for kind in ("key", "value"))
        for at in range(spec.layers)
    ]
    places = graph.input("places", INT64, ("places",), np.array([-1]))
    prompt = graph.input(
        "prompt", FLOAT, ("front", spec.hidden), np.zeros((0, spec.hidden), np.float32)
    )
    layers = {
        target: Layer(
            matrix,
            vector(graph, biases[target], read) if target in biases else None,
            *adapter_inputs(graph, target, matrix.shape),
        )
        for target, matrix in matrices.items()
    }
    batch = length_of(graph, ids, 0)
    entered = _entered(graph, spec, embedding, ids, _front(graph, prompt, lengths))
    tokens = length_of(graph, entered, 1)
    positions = add_positions(
        graph, lengths=lengths, batch=batch, tokens=tokens,
        past=length_of(graph, pasts[0][0], 2), turns=turns, windows=spec.windows,
    )  # fmt: skip
    x = graph.add("Reshape", entered, graph.constant(np.array([-1, spec.hidden])))
    new = []
    for at, (key, value) in enumerate(pasts):
        block = Block(graph, at, spec, layers=layers, read=read, positions=positions)
        x, *made = block.add(x, key, value)
        new.append(made)
    # Only what is wanted goes through the head, whose outcome is the widest of all.
    wanted = graph.add("Gather", x, places, axis=0)
    weight = vector(graph, "model.norm.weight", read, spec.norm_offset)
    logits = product(graph, rms_norm(graph, wanted, weight, spec.eps), head)
    graph.output("logits", capped(graph, logits, spec.logit_cap), ("places", spec.vocab))
    sizes = ("batch", spec.kv_heads, "prompt_and_tokens", spec.head_dim)
    for at, pair in enumerate(new):
        for kind, one in zip(("key", "value"), pair, strict=True):
            graph.output(f"new.{at}.{kind}", one, sizes)


def _front(graph: Graph, prompt: str, lengths: str) -> str:
    """Add the prompt where a text begins, none of it elsewhere, (front or 0, hidden)."""
    zero = graph.constant(np.array([0]))
    longest = graph.add("ReduceMax", lengths, zero, keepdims=1)
    begins = graph.add("Cast", graph.add("Equal", longest, zero), to=INT64)
    stop = graph.add("Mul", length_of(graph, prompt, 0), begins)
    return graph.add("Slice", prompt, zero, stop, zero)


def _entered(graph: Graph, spec: Spec, embedding: Matrix, ids: str, front: str) -> str:
    """Add the first block's input, (batch, prompt + tokens, hidden)."""
    embedded = rows(graph, embedding, ids)
    if spec.embed_scale != 1.0:
        embedded = graph.add("Mul", embedded, graph.constant(np.float32(spec.embed_scale)))
    sizes = graph.add("Concat", length_of(graph, ids, 0), graph.constant(np.array([1, 1])), axis=0)
    fronts = graph.add(
        "Expand", graph.add("Unsqueeze", front, graph.constant(np.array([0]))), sizes
    )
    return graph.add("Concat", fronts, embedded, axis=1)
