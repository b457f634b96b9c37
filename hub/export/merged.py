"""A base with an adapter in its weights, as a model's folder: W + B A, stored as the base is."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.export.targets import checked_targets
from hub.offline.lora_folder import LoraFolder
from wire.codecs.bf16 import CODEC as BFLOAT16
from wire.errors import MalformedError
from wire.model_file import config_of, weight_files
from wire.safetensors_header import StoredTensor, read_header
from wire.safetensors_numbers import READABLE, read_numbers
from wire.safetensors_writer import write_safetensors
from wire.whole_model import BESIDE_WEIGHTS

_ROWS = 1024  # of a sum in float64 at a time


def write_merged(adapter: Path, base: Path, out: Path, digest: str) -> None:
    """Write the merged model, file by file as the base has them, one tensor in memory.

    Args:
        adapter: LoRA folder of PEFT.
        base: a Hugging Face folder.
        out: an existing folder.
        digest: of the base's manifest; stands in the weights' metadata.

    Raises:
        MalformedError: the adapter doesn't fit the base, or a sum leaves the stored type's range.
        WireError: there is no model.
        OSError: a file can't be read or written.
    """
    factors = LoraFolder(adapter)
    checked_targets(factors, config_of(base))
    left = {f"{target}.weight" for target in factors.shapes}
    for path in weight_files(base):
        header = read_header(path)
        left -= set(header)
        entries = {name: (stored.dtype, stored.shape) for name, stored in header.items()}
        metadata = {"format": "pt", "lorikeet.base.sha256": digest}
        write_safetensors(out / path.name, entries, _data(path, header, factors), metadata)
    if left:
        raise MalformedError(f"{base} has no tensor {min(left)}. Fetch the model again.")
    for path in sorted(base.iterdir()):
        if path.suffix in BESIDE_WEIGHTS and path.is_file():
            shutil.copyfile(path, out / path.name)


def _data(
    path: Path, header: dict[str, StoredTensor], factors: LoraFolder
) -> Iterator[bytes | memoryview]:
    for name, stored in header.items():
        target = name.removesuffix(".weight")
        if name.endswith(".weight") and target in factors.shapes:
            yield _merged(path, name, stored, factors)
        else:
            with path.open("rb") as file:
                file.seek(stored.start)
                yield file.read(stored.size_bytes)


def _merged(path: Path, name: str, stored: StoredTensor, factors: LoraFolder) -> bytes:
    target = name.removesuffix(".weight")
    if stored.dtype not in READABLE or stored.shape != factors.shapes[target]:
        raise MalformedError(
            f"{path} has {name} as {stored.dtype} {list(stored.shape)}; merged are "
            f"{', '.join(READABLE)} of shape {list(factors.shapes[target])}."
        )
    values = read_numbers(path, stored)
    a, b = factors.exact(target)
    parts = []
    for first in range(0, len(values), _ROWS):
        # In float64, so that the order in which a machine adds doesn't show.
        total = values[first : first + _ROWS].astype(np.float64) + b[first : first + _ROWS] @ a
        parts.append(_rounded(total, stored.dtype, name))
    return b"".join(parts)


def _rounded(values: NDArray[np.float64], dtype: str, name: str) -> bytes:
    with np.errstate(over="ignore"):
        # 16 bits by way of 32, as torch rounds a sum.
        kept: NDArray[Any] = values if dtype == "F64" else values.astype("<f4")
        kept = kept.astype("<f2") if dtype == "F16" else kept
    if not np.isfinite(kept).all():
        raise MalformedError(f"{name} leaves the range of {dtype} when it is merged.")
    if dtype == "BF16":
        return BFLOAT16.compress(kept.astype(np.float32), np.random.default_rng(0))
    return kept.tobytes()
