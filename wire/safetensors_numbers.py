"""The numbers of one tensor of a ``.safetensors`` file, without torch: numpy has no bfloat16."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.errors import MalformedError
from wire.safetensors_header import StoredTensor

_KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
#: Types that can be read, as headers spell them.
READABLE = tuple(_KINDS)


def read_numbers(path: Path, stored: StoredTensor) -> NDArray[Any]:
    """Return a tensor in the type that it is stored in, or in float32 if that is bfloat16.

    Args:
        path: of the file.
        stored: of its header (`wire.safetensors_header.read_header`), of a type in `READABLE`.

    Raises:
        MalformedError: the file was cut off.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        file.seek(stored.start)
        data = file.read(stored.size_bytes)
    if len(data) != stored.size_bytes:
        raise MalformedError(f"{path.name} was cut off.")
    values: NDArray[Any] = np.frombuffer(data, dtype=_KINDS[stored.dtype])
    if stored.dtype == "BF16":
        bits = values.astype("<u4")
        bits <<= 16  # in place: an embedding takes half a gigabyte
        values = bits.view("<f4")
    return values.reshape(stored.shape)
