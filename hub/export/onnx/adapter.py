"""An adapter as an ``.onnx_adapter`` file, as ONNX Runtime's LoraAdapter takes it.

A FlatBuffer of named tensors, each of which takes the place of a graph's input. Written here and
not by onnxruntime, whose order of tensors is that of a hash table, and which a hub needs for
nothing else. Source: onnxruntime/lora/adapter_format/adapter_schema.fbs in
https://github.com/microsoft/onnxruntime.
"""

from pathlib import Path

import numpy as np
from flatbuffers import Builder
from numpy.typing import NDArray

from hub.export.prompt_file import prompt_tensors
from hub.export.targets import checked_targets
from hub.offline.lora_folder import LoraFolder
from wire.errors import MalformedError
from wire.model_file import config_of

Array = NDArray[np.float32]

_FORMAT_VERSION, _ADAPTER_VERSION = 1, 1
_IDENTIFIER = b"TORT"
_FLOAT = 1
_ALIGNED = 8  # of the schema
#: FlatBuffers' own limit, less what names take.
_MOST_BYTES = 2**31 - 2**24


def model_version(digest: str) -> int:
    """Return the number by which an adapter names its base: 31 bits of the manifest's digest."""
    return int(digest[:8], 16) & 0x7FFFFFFF


def write_adapter(adapter: Path, base: Path, path: Path, digest: str) -> None:
    """Write a job's factors and its soft prompt as one file, in float32, scales in B.

    Args:
        adapter: a job's adapter folder; a prefix in it is left out.
        base: a Hugging Face folder; only its ``config.json`` is read.
        path: of the file.
        digest: of the base's manifest; `model_version` of it stands in the file.

    Raises:
        MalformedError: the adapter changes something else than linear layers of that base.
        OSError: a file can't be read or written.
    """
    factors = _factors(adapter, base)
    size_bytes = 0 if factors is None else _size_bytes(factors)
    if size_bytes > _MOST_BYTES:
        raise MalformedError(
            f"the adapter has {size_bytes} bytes; an .onnx_adapter file holds 2 GiB. Use another "
            "format, or a lower rank."
        )
    builder = Builder(size_bytes + 2**16)
    tables = []
    if factors is not None:
        for target in factors.shapes:
            pair = factors.factors(target)
            tables.append(_parameter(builder, f"{target}.lora_A", pair.a))
            tables.append(_parameter(builder, f"{target}.lora_B", pair.b))
    prompt = (prompt_tensors(adapter) or {}).get("prompt")
    if prompt is not None:
        tables.append(_parameter(builder, "prompt", prompt))
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(_finished(builder, tables, digest))
    partial.replace(path)


def _factors(adapter: Path, base: Path) -> LoraFolder | None:
    if not (adapter / "adapter_config.json").is_file():
        return None
    factors = LoraFolder(adapter)
    checked_targets(factors, config_of(base))
    return factors


def _size_bytes(factors: LoraFolder) -> int:
    return sum(4 * sum(shape) * factors.config.rank(at) for at, shape in factors.shapes.items())


def _finished(builder: Builder, tables: list[int], digest: str) -> bytearray:
    builder.StartVector(4, len(tables), 4)
    # A buffer is filled from its end.
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    parameters = builder.EndVector()
    builder.StartObject(4)
    builder.PrependInt32Slot(0, _FORMAT_VERSION, 0)
    builder.PrependInt32Slot(1, _ADAPTER_VERSION, 0)
    builder.PrependInt32Slot(2, model_version(digest), 0)
    builder.PrependUOffsetTRelativeSlot(3, parameters, 0)
    builder.Finish(builder.EndObject(), file_identifier=_IDENTIFIER)
    output: bytearray = builder.Output()
    return output


def _parameter(builder: Builder, name: str, values: Array) -> int:
    data = np.ascontiguousarray(values, dtype="<f4").reshape(-1).view(np.uint8)
    builder.StartVector(1, data.size, _ALIGNED)
    builder.head = builder.Head() - data.size
    builder.Bytes[builder.Head() : builder.Head() + data.size] = data.data
    raw = builder.EndVector()
    builder.StartVector(8, values.ndim, 8)
    for size in reversed(values.shape):
        builder.PrependInt64(size)
    sizes = builder.EndVector()
    label = builder.CreateString(name)
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(0, label, 0)
    builder.PrependUOffsetTRelativeSlot(1, sizes, 0)
    builder.PrependInt32Slot(2, _FLOAT, 0)
    builder.PrependUOffsetTRelativeSlot(3, raw, 0)
    table: int = builder.EndObject()
    return table
