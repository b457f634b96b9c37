"""A model's folder with all its weights moved: base plus difference, without transformers or torch.

What is written is a folder of Hugging Face's layout in float32, the type in which whole weights are
trained; the tokenizer is the base's. One tensor at a time is in memory.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from wire.errors import MalformedError
from wire.model_file import config_of, tensors_of, weight_files
from wire.safetensors_header import StoredTensor
from wire.safetensors_numbers import READABLE, read_numbers
from wire.safetensors_writer import write_safetensors

Array = NDArray[np.float32]
Shape = tuple[int, ...]

#: What of a base's folder goes along: configuration, tokenizer, chat template, generation settings.
BESIDE_WEIGHTS = (".jinja", ".json", ".model", ".txt")
_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"


class BaseWeights:
    """The weights of a base in a Hugging Face folder, read one at a time.

    Args:
        folder: of the base.
        shapes: of each weight by name (`wire.shape.parameter_shapes`).

    Raises:
        MalformedError: the folder's files hold other tensors; the message names one.
        WireError: there is no model, or a file's header can't be used.
        OSError: a file can't be read.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, Shape]) -> None:
        self.shapes = dict(shapes)
        self._places: dict[str, tuple[Path, StoredTensor]] = {}
        for file in weight_files(folder):
            for name, stored in tensors_of(file).items():
                if name in shapes and isinstance(stored, StoredTensor):
                    self._places[name] = file, stored
        for name, shape in shapes.items():
            if name not in self._places:
                raise MalformedError(
                    f"{folder} has no tensor {name}. Save the model again with save_pretrained."
                )
            stored = self._places[name][1]
            if stored.shape != shape or stored.dtype not in READABLE:
                raise MalformedError(
                    f"{folder} has {name} as {stored.dtype} {list(stored.shape)}; its config.json "
                    f"says {list(shape)}, and {', '.join(READABLE)} can be read."
                )

    def get(self, name: str) -> Array:
        """Return one weight in float32.

        Raises:
            MalformedError: the file was cut off since.
            OSError: it can't be read.
        """
        return np.asarray(read_numbers(*self._places[name]), dtype=np.float32)


def write_whole(
    folder: Path, base: Path, moved: Callable[[str], Array], shapes: Mapping[str, Shape]
) -> None:
    """Write a base with its weights moved.

    Args:
        folder: made if it isn't there; files of an older one are replaced.
        base: a Hugging Face folder.
        moved: returns by how much a weight has moved, by its name.
        shapes: of each weight by name.

    Raises:
        MalformedError: the base holds other tensors, or a sum leaves float32's range.
        WireError, OSError: a file can't be read or written.
    """
    weights = BaseWeights(base, shapes)

    def sums() -> Iterator[memoryview]:
        for name in shapes:
            with np.errstate(over="ignore"):
                value = weights.get(name) + moved(name)
            if not np.isfinite(value).all():
                raise MalformedError(f"{name} leaves the range of float32.")
            yield np.ascontiguousarray(value, dtype="<f4").data

    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(base.iterdir()):
        if path.suffix in BESIDE_WEIGHTS and path.name not in (_CONFIG, _INDEX) and path.is_file():
            shutil.copyfile(path, folder / path.name)
    entries = {name: ("F32", shape) for name, shape in shapes.items()}
    write_safetensors(folder / "model.safetensors", entries, sums(), {"format": "pt"})
    config = {key: value for key, value in config_of(base).items() if key != "torch_dtype"}
    # The configuration comes last: a folder that has it is complete.
    partial = folder / f"{_CONFIG}.partial"
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(config | {"dtype": "float32"})))
    partial.replace(folder / _CONFIG)
