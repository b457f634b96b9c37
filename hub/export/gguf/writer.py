"""Writes a GGUF file one tensor at a time; the same input gives the same bytes.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, quants
from numpy.typing import NDArray

from wire.errors import MalformedError

Array = NDArray[np.float32]

F32, F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
Q8_0, Q4_0 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0
#: Numbers that are quantised together, along a row.
BLOCK = 32


@dataclass(frozen=True)
class Planned:
    """A tensor that is made when it is written.

    Attributes:
        name: in the file.
        shape: as numpy has it.
        kind: in which it is stored.
        values: makes its numbers, finite and of that shape.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    values: Callable[[], Array]


def write_gguf(
    path: Path,
    architecture: str,
    keys: Mapping[str, Any],
    tensors: Sequence[Planned],
) -> None:
    """Write a file, or replace it once the new one is whole.

    Args:
        path: of the file; its folder exists.
        architecture: llama.cpp's name of it.
        keys: metadata: bool, int (32 bits, unsigned), float (32 bits), str, or a sequence of one of
            them; numbers in a sequence are signed.
        tensors: in the order in which they are written.

    Raises:
        MalformedError: a tensor's numbers don't fit into its kind.
        OSError: the file can't be written; an earlier one stays as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    writer = _Writer(partial, architecture)
    try:
        for key, value in keys.items():
            _add(writer, key, value)
        for one in tensors:
            size_bytes = prod(quants.quant_shape_to_byte_shape(one.shape, one.kind))
            float32 = np.dtype(np.float32)
            writer.add_tensor_info(one.name, one.shape, float32, size_bytes, raw_dtype=one.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for stored in _stored(tensors):
            writer.write_tensor_data(stored)
        writer.close()
        partial.replace(path)
    except BaseException:
        writer.close()
        with suppress(OSError):
            partial.unlink()
        raise


class _Writer(GGUFWriter):
    """Writes empty arrays, too: llama.cpp wants merges even where bytes are the only tokens."""

    def _pack_val(
        self, val: Any, vtype: GGUFValueType, add_vtype: bool, sub_type: GGUFValueType | None = None
    ) -> bytes:
        if vtype is GGUFValueType.ARRAY and len(val) == 0 and sub_type is not None:
            head = self._pack("I", vtype) if add_vtype else b""
            return head + self._pack("I", sub_type) + self._pack("Q", 0)
        return super()._pack_val(val, vtype, add_vtype, sub_type)


_KINDS = {
    bool: (GGUFValueType.BOOL, GGUFValueType.BOOL),
    int: (GGUFValueType.UINT32, GGUFValueType.INT32),
    float: (GGUFValueType.FLOAT32, GGUFValueType.FLOAT32),
    str: (GGUFValueType.STRING, GGUFValueType.STRING),
}


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if type(value) in _KINDS:
        writer.add_key_value(key, value, _KINDS[type(value)][0])
        return
    # An empty one is of strings: only merges may be.
    kind = _KINDS[type(value[0]) if value else str][1]
    writer.add_key_value(key, value, GGUFValueType.ARRAY, sub_type=kind)


def _stored(tensors: Iterable[Planned]) -> Iterable[NDArray[Any]]:
    for one in tensors:
        values = one.values()
        with np.errstate(over="ignore"):
            stored = quants.quantize(values, one.kind)
        # A block's scale is a float16 in every kind but float32. NaN is neither below nor above.
        most = float(np.finfo(np.float32 if one.kind is F32 else np.float16).max)
        if not (-most <= float(values.min()) and float(values.max()) <= most):
            raise MalformedError(
                f"{one.name} has entries that {one.kind.name} can't hold (NaN, infinite, or beyond "
                f"{most:g})."
            )
        yield stored
