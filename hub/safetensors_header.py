"""What a ``.safetensors`` file holds, from its header alone: no tensor is read.

Source: the format's description at https://github.com/huggingface/safetensors#format.
"""

from pathlib import Path
from typing import Any

import msgspec

#: The format's own limit.
MAX_HEADER_BYTES = 100_000_000


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def bytes_by_dtype(path: Path) -> dict[str, int]:
    """Return how many bytes a file holds of each type of number (``BF16``, ``F32``, ...).

    Raises:
        ValueError: it isn't a safetensors file, or it was cut short.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
            raise ValueError(f"{path.name} is not a safetensors file, or was cut short")
        header = file.read(length)
    try:
        entries: dict[str, Any] = msgspec.json.decode(header, type=dict[str, Any])
        entries.pop("__metadata__", None)
        tensors = msgspec.convert(entries, dict[str, _Entry])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} has a header that can't be read: {error}") from error
    found: dict[str, int] = {}
    for tensor in tensors.values():
        start, end = tensor.data_offsets
        if not 0 <= start <= end <= size_bytes - 8 - length:
            raise ValueError(f"{path.name} was cut short; fetch it again")
        found[tensor.dtype] = found.get(tensor.dtype, 0) + end - start
    return found
