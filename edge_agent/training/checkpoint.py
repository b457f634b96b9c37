"""The state of a training task on disk, so that a pause, a kill or a reboot costs a minute at most.

One safetensors file (https://github.com/huggingface/safetensors#format), written and read a tensor
at a time: what is trained, AdamW's moments, the losses so far. The order of the data needs no
place in it, for the seed fixes it.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.errors import AgentError
from wire.errors import MalformedError
from wire.safetensors_header import StoredTensor, read_header
from wire.safetensors_writer import write_safetensors

log = logging.getLogger(__name__)

#: How much work may be lost, in seconds, and how small a share of it saving may take.
INTERVAL_S = 60.0
_LEAST_PAUSES = 20
#: Checked at a time.
_PIECE = 1024 * 256
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}
_TENSOR, _LOSSES, _TOKENS, _SECONDS, _KEY = "tensor.", "losses", "tokens", "seconds", "key"


@dataclass
class Done:
    """What a task has done so far; as many steps as losses."""

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0


class BrokenError(AgentError):
    """The file is not a whole training state."""


class Checkpoint:
    """One task's training state in a file.

    Args:
        path: of the file.
        facts: whatever a state depends on; one that was saved under others is of no use.
    """

    def __init__(self, path: Path, *facts: str) -> None:
        self._path = path
        self._key = hashlib.sha256(json.dumps(facts).encode()).digest()
        self._saved_at = time.monotonic()
        self._cost_s = 0.0

    def due(self) -> bool:
        """Whether the last state is old enough, in proportion to what saving takes."""
        least_s = max(INTERVAL_S, _LEAST_PAUSES * self._cost_s)
        return time.monotonic() - self._saved_at >= least_s

    def save(self, tensors: Mapping[str, torch.Tensor], done: Done) -> bool:
        """Replace the file by the present state; an earlier one stays if that fails.

        Args:
            tensors: float32, by name.
            done: what they are the result of.

        Returns:
            Whether it is on disk.
        """
        began = time.monotonic()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._write(tensors, done)
        except OSError as error:
            log.warning("the training state can't be saved: %s", error.strerror or error)
            return False
        finally:
            self._saved_at = time.monotonic()
            self._cost_s = self._saved_at - began
        return True

    def load(self, tensors: Mapping[str, torch.Tensor], steps: int) -> Done | None:
        """Fill tensors with the saved state, all of them or none.

        Args:
            tensors: float32, by name; changed in place.
            steps: of the whole task; a state beyond them is none of it.

        Returns:
            What had been done; None: there is no state of this very task, or it is broken.
        """
        if not self._path.is_file():
            return None
        try:
            with self._path.open("rb") as file:
                header = read_header(self._path)
                done = self._check(file, header, tensors, steps)
                if done is None:
                    log.info("the saved training state belongs to another task")
                    return None
                for name, tensor in tensors.items():
                    values = _numbers(file, header[_TENSOR + name]).reshape(tensor.shape)
                    with torch.no_grad():
                        tensor.copy_(torch.from_numpy(values))
        except (OSError, MalformedError, BrokenError) as error:
            log.warning("the saved training state is passed over: %s", error)
            return None
        return done

    def _write(self, tensors: Mapping[str, torch.Tensor], done: Done) -> None:
        numbers: dict[str, NDArray[Any]] = {
            _KEY: np.frombuffer(self._key, dtype=_DTYPES["U8"]),
            _LOSSES: np.array(done.losses, dtype=_DTYPES["F64"]),
            _TOKENS: np.array([done.tokens], dtype=_DTYPES["I64"]),
            _SECONDS: np.array([done.seconds], dtype=_DTYPES["F64"]),
        }
        entries = {name: (_code(array.dtype), array.shape) for name, array in numbers.items()}
        entries |= {_TENSOR + name: ("F32", tuple(t.shape)) for name, t in tensors.items()}
        values = (
            np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=_DTYPES["F32"])
            for tensor in tensors.values()
        )
        data = (array.data for array in chain(numbers.values(), values))
        write_safetensors(self._path, entries, data)

    def _check(
        self,
        file: BinaryIO,
        header: Mapping[str, StoredTensor],
        tensors: Mapping[str, torch.Tensor],
        steps: int,
    ) -> Done | None:
        """Return what was done, once everything in the file has proved to be right.

        Raises:
            BrokenError: something is not.
        """
        key = header.get(_KEY)
        if key is None or (key.dtype, key.shape) != ("U8", (len(self._key),)):
            raise BrokenError("it doesn't say whose it is.")
        if _numbers(file, key).tobytes() != self._key:
            return None
        wanted: dict[str, tuple[str, tuple[int, ...] | None]] = {
            _KEY: (key.dtype, key.shape),
            _LOSSES: ("F64", None),
            _TOKENS: ("I64", (1,)),
            _SECONDS: ("F64", (1,)),
        }
        wanted |= {_TENSOR + name: ("F32", tuple(t.shape)) for name, t in tensors.items()}
        if header.keys() != wanted.keys():
            raise BrokenError("it holds other tensors than the task trains.")
        for name, (dtype, shape) in wanted.items():
            stored = header[name]
            if stored.dtype != dtype or shape not in (None, stored.shape):
                raise BrokenError(f"{name} is {stored.dtype} {stored.shape}; not {dtype} {shape}.")
            if dtype in ("F32", "F64"):
                _check_finite(file, name, stored)
        losses = _numbers(file, header[_LOSSES]).tolist()
        tokens = int(_numbers(file, header[_TOKENS])[0])
        seconds = float(_numbers(file, header[_SECONDS])[0])
        if not 0 < len(losses) <= steps or tokens < 0 or seconds < 0:
            raise BrokenError(f"it tells of {len(losses)} steps of {steps}.")
        return Done(losses, tokens, seconds)


def _code(dtype: np.dtype[Any]) -> str:
    return next(code for code, known in _DTYPES.items() if known == dtype)


def _numbers(file: BinaryIO, stored: StoredTensor) -> NDArray[Any]:
    """Read one whole tensor, flat.

    Raises:
        BrokenError: the file is shorter than it was.
    """
    values = np.empty(math.prod(stored.shape), dtype=_DTYPES[stored.dtype])
    file.seek(stored.start)
    if file.readinto(values.data) != stored.size_bytes:  # type: ignore[attr-defined]
        raise BrokenError("it was cut off.")
    return values


def _check_finite(file: BinaryIO, name: str, stored: StoredTensor) -> None:
    file.seek(stored.start)
    left = stored.size_bytes
    dtype = _DTYPES[stored.dtype]
    while left > 0:
        data = file.read(min(left, _PIECE * dtype.itemsize))
        if not data:
            raise BrokenError("it was cut off.")
        if not np.isfinite(np.frombuffer(data, dtype=dtype)).all():
            raise BrokenError(f"{name} has entries that are NaN or infinite.")
        left -= len(data)
