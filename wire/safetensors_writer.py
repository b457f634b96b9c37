"""Writes a ``.safetensors`` file one tensor at a time, so that never more than one is in memory.

Source: the format's description at https://github.com/huggingface/safetensors#format.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import BinaryIO

import msgspec

from wire.safetensors_header import BITS

#: Written before the disk has taken it: dirty pages count against a control group's limit.
_DIRTY_BYTES = 16 * 1024 * 1024
_LENGTH_BYTES = 8


def write_safetensors(
    path: Path,
    entries: Mapping[str, tuple[str, Sequence[int]]],
    data: Iterable[bytes | memoryview],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a file, or replace it once the new one is whole and on the disk.

    Only one process may write a path at a time.

    Args:
        path: of the file; its folder exists.
        entries: type (``F32``, ``BF16``, ...) and shape of each tensor, by name.
        data: the tensors' bytes, little-endian, in the order of ``entries``.
        metadata: goes into the header.

    Raises:
        ValueError: a tensor's bytes are not as many as its type and shape make.
        OSError: the file can't be written; an earlier one stays as it was.
    """
    partial = path.with_name(f"{path.name}.partial")  # one name: a kill leaves one at most
    try:
        with partial.open("wb") as file:
            file.write(_header(entries, metadata))
            _write(file, entries, data)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _header(
    entries: Mapping[str, tuple[str, Sequence[int]]], metadata: Mapping[str, str] | None
) -> bytes:
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    at = 0
    for name, (dtype, shape) in entries.items():
        size = _size(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": (at, at + size)}
        at += size
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _write(
    file: BinaryIO,
    entries: Mapping[str, tuple[str, Sequence[int]]],
    data: Iterable[bytes | memoryview],
) -> None:
    dirty = 0
    for (name, (dtype, shape)), buffer in zip(entries.items(), data, strict=True):
        with memoryview(buffer) as view:
            if view.nbytes != _size(dtype, shape):
                raise ValueError(f"{name} has {view.nbytes} bytes; {dtype} {shape} has others.")
            file.write(view)
            dirty += view.nbytes
        if dirty >= _DIRTY_BYTES:
            _to_disk(file)
            dirty = 0
    _to_disk(file)


def _size(dtype: str, shape: Sequence[int]) -> int:
    return BITS[dtype] * prod(shape) // 8


def _to_disk(file: BinaryIO) -> None:
    """Let the disk take what was written, and the page cache forget it."""
    file.flush()
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
