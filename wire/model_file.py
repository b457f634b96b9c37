"""A base model on disk: which files hold it, what it is, and how large its tensors are.

A model is a folder of Hugging Face's layout (``config.json`` with safetensors, in one file or in
shards), a folder with one GGUF file, or a GGUF file. Only headers are read, so a supervisor may
ask.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from wire import gguf_header, safetensors_header
from wire.errors import MalformedError, WireError
from wire.gguf_config import config_of_gguf
from wire.gguf_header import GgufTensor
from wire.safetensors_header import StoredTensor

MAX_JSON_BYTES = 64 * 1024 * 1024
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_MAX_SHARDS = 10_000


def weight_files(path: Path) -> list[Path]:
    """Return the files that hold a model's tensors: GGUF, or one or more of safetensors.

    Raises:
        WireError: there is no model, there are several, or the model's index can't be used.
    """
    if path.is_file():
        if path.suffix != ".gguf":
            raise WireError(f"{path} is not a model's folder, nor a GGUF file.")
        return [path]
    if not path.is_dir():
        raise WireError(f"{path} doesn't exist. Give a model's folder or a GGUF file.")
    if (path / _SINGLE).is_file():
        return [path / _SINGLE]
    if (path / _INDEX).is_file():
        return _shards(path)
    found = sorted(path.glob("*.gguf"))
    if len(found) > 1:
        raise WireError(f"{path} holds {len(found)} GGUF files. Name the one that is meant.")
    if not found:
        raise WireError(f"{path} has no weights: neither {_SINGLE} nor {_INDEX} nor a .gguf file.")
    return found


def config_of(path: Path) -> dict[str, Any]:
    """Return a model's ``config.json``, or the same made from a GGUF file's header.

    Raises:
        WireError: there is no model, or its header or ``config.json`` can't be used.
    """
    config = path / "config.json"
    if path.is_dir() and (any(path.glob("*.safetensors")) or not any(path.glob("*.gguf"))):
        return read_json_object(config)
    file = weight_files(path)[0]
    try:
        return config_of_gguf(file)
    except OSError as error:
        raise WireError(f"{file} can't be read: {error.strerror}.") from error


def stored_bytes(path: Path) -> int:
    """Return the bytes of all tensors in a model's files.

    Raises:
        WireError: there is no model, or a file's header can't be used.
    """
    try:
        return sum(
            tensor.size_bytes for file in weight_files(path) for tensor in tensors_of(file).values()
        )
    except OSError as error:
        raise WireError(f"{error.filename} can't be read: {error.strerror}.") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Return a file's JSON object.

    Raises:
        WireError: the file can't be read, is too large, or holds something else.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise MalformedError(f"{path} is larger than {MAX_JSON_BYTES} bytes.")
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise WireError(f"{path} can't be read: {error.strerror}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{path} is not a JSON object: {error}") from error


def tensors_of(file: Path) -> Mapping[str, StoredTensor | GgufTensor]:
    """Return the tensors of one file of a model, by the names that they have there.

    Raises:
        WireError: its header can't be used.
        OSError: it can't be read.
    """
    if file.suffix == ".gguf":
        return gguf_header.read_header(file).tensors
    return safetensors_header.read_header(file)


def _shards(folder: Path) -> list[Path]:
    """Return the files that a model's index names, none of them outside the folder."""
    mapped = read_json_object(folder / _INDEX).get("weight_map")
    names = set(mapped.values()) if isinstance(mapped, dict) else set()
    if not names or len(names) > _MAX_SHARDS:
        raise MalformedError(f"{folder / _INDEX} has no usable weight_map.")
    shards = []
    for name in sorted(names, key=str):
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or not name.endswith(".safetensors")
        ):
            raise MalformedError(
                f"{folder / _INDEX} names {str(name)[:200]!r}, not a shard's file."
            )
        if not (folder / name).is_file():
            raise WireError(f"{folder / name} is missing. Fetch the model again.")
        shards.append(folder / name)
    return shards
