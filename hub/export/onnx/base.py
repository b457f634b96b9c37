"""A base model as an ONNX graph and the file with its weights beside it.

The graph is built here, from ``config.json`` and safetensors, node by node: what traces models
(torch's exporter) needs torch and the whole model in memory. ONNX: https://onnx.ai/onnx/repo-docs.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hub.export.base_type import BaseType
from hub.export.onnx.decoder import add_decoder
from hub.export.onnx.graph import ALIGNED_BYTES, Graph, as_float32
from hub.export.onnx.matrix import Matrix, plan
from hub.export.onnx.rope import turns_of
from wire.block_spec import spec_of
from wire.derived import BASE_KEY
from wire.model_file import config_of
from wire.shape import parameter_shapes, target_modules
from wire.whole_model import BaseWeights

Array = NDArray[np.float32]

#: Bits of the blocks' matrices and the embeddings, and of the head, which costs most when it is
#: coarse: as in GGUF's Q4_0 files.
_BITS = {BaseType.F32: (32, 32), BaseType.F16: (16, 16), BaseType.Q4: (4, 8)}
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_TYPE_KEY = "lorikeet.base.type"


def data_file(path: Path) -> Path:
    """Return where the weights of a graph stand."""
    return path.with_name(f"{path.name}.data")


def write_base(folder: Path, path: Path, stored: BaseType, digest: str) -> None:
    """Write a Hugging Face folder's model as two files, one tensor in memory.

    Args:
        folder: of the base, of a family of `wire.shape.FAMILIES`.
        path: of the graph; the weights stand in `data_file` of it.
        stored: of `hub.export.base_type.ONNX_TYPES`.
        digest: of the base's manifest.

    Raises:
        MalformedError: the graph would compute something else than the model does, a number doesn't
            fit its type, or a file isn't what it should be.
        WireError: there is no model.
        OSError: a file can't be read or written.
    """
    graph = _graph(folder, stored)
    model = graph.model(data_file(path).name, {BASE_KEY: digest, _TYPE_KEY: stored.value})

    def write_model(file: BinaryIO) -> None:
        file.write(model.SerializeToString(deterministic=True))

    # The graph comes last: where there is one, its weights are there, too.
    _write(data_file(path), lambda file: _write_data(file, graph))
    _write(path, write_model)


def _graph(folder: Path, stored: BaseType) -> Graph:
    config = config_of(folder)
    shapes, targets = parameter_shapes(config), target_modules(config)
    spec = spec_of(config)
    weights = BaseWeights(folder, shapes)
    bits, head_bits = _BITS[stored]
    graph = Graph()

    def planned(name: str, bits: int) -> Matrix:
        out, width = shapes[name]
        looked_up = name == _EMBEDDING
        return plan(graph, name, (out, width), bits, lambda: weights.get(name), looked_up=looked_up)

    tied = _HEAD not in shapes
    embedding = planned(_EMBEDDING, head_bits if tied else bits)
    matrices = {target: planned(f"{target}.weight", bits) for target in targets}
    add_decoder(
        graph,
        spec,
        turns_of(config, spec.head_dim),
        matrices=matrices,
        embedding=embedding,
        head=embedding if tied else planned(_HEAD, head_bits),
        biases={target: f"{target}.bias" for target in targets if f"{target}.bias" in shapes},
        read=lambda name: as_float32(weights.get(name), name),
    )
    return graph


def _write_data(file: BinaryIO, graph: Graph) -> None:
    for planned in graph.planned:
        for tensor, values in zip(planned.tensors, planned.make(), strict=True):
            file.write(bytes(-file.tell() % ALIGNED_BYTES))
            file.write(_bytes(values, tensor.size_bytes))
        # Dirty pages count against a control group's limit.
        file.flush()
        os.fsync(file.fileno())


def _bytes(values: NDArray[Any], size_bytes: int) -> memoryview:
    view = np.ascontiguousarray(values).data
    if view.nbytes != size_bytes:
        raise ValueError(f"a tensor has {view.nbytes} bytes in place of {size_bytes}.")
    return view


def _write(path: Path, write: Callable[[BinaryIO], None]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
