"""A soft prompt, or a prefix of every layer, beside an export that has no place for one."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.export.peft_folder import PROMPT_FOLDER
from wire.config_keys import number
from wire.errors import MalformedError
from wire.model_file import read_json_object
from wire.safetensors_header import read_header
from wire.safetensors_numbers import READABLE, read_numbers
from wire.safetensors_writer import write_safetensors

_STORED = "prompt_embeddings"


def write_prompt_file(adapter: Path, out: Path, digest: str) -> str | None:
    """Write ``prompt.safetensors`` or ``prefix.safetensors``, if the adapter has such a part.

    The former holds ``prompt``, (tokens, hidden); the latter ``prefix.{layer}.key`` and ``.value``
    of every layer, (kv_heads, tokens, head_dim), in Hugging Face's order of a head's numbers.

    Args:
        adapter: a job's adapter folder.
        out: the export's folder.
        digest: of the base's manifest; stands in the file's metadata.

    Returns:
        The file's name, None if there is no such part.

    Raises:
        MalformedError: the adapter's file is broken.
        OSError: a file can't be read or written.
    """
    tensors = prompt_tensors(adapter)
    if tensors is None:
        return None
    name = "prompt.safetensors" if "prompt" in tensors else "prefix.safetensors"
    write_safetensors(
        out / name,
        {key: ("F32", value.shape) for key, value in tensors.items()},
        (np.ascontiguousarray(value).data for value in tensors.values()),
        {"format": "pt", "lorikeet.base.sha256": digest},
    )
    return name


def prompt_tensors(adapter: Path) -> dict[str, NDArray[Any]] | None:
    """Return what `write_prompt_file` writes, in float32, None if there is no such part.

    Raises:
        MalformedError: the adapter's file is broken.
        OSError: a file can't be read.
    """
    source = adapter / PROMPT_FOLDER / "adapter_model.safetensors"
    if not source.is_file():
        return None
    stored = read_header(source).get(_STORED)
    if stored is None or len(stored.shape) != 2 or stored.dtype not in READABLE:
        raise MalformedError(f"{source} holds no matrix {_STORED}.")
    values = read_numbers(source, stored).astype("<f4")
    config = read_json_object(adapter / PROMPT_FOLDER / "adapter_config.json")
    prefix = config.get("peft_type") == "PREFIX_TUNING"
    return _prefix(source, values, config) if prefix else {"prompt": values}


def _prefix(source: Path, values: NDArray[Any], config: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Return keys and values by layer: the inverse of `wire.peft_folder.write_prefix`."""
    layers, heads = number(config, "num_layers"), number(config, "num_attention_heads")
    tokens, width = values.shape
    if width % (2 * layers * heads):
        raise MalformedError(
            f"{source} has rows of {width} numbers; {layers} layers of {heads} heads don't fit."
        )
    parts = values.reshape(tokens, 2 * layers, heads, -1).transpose(1, 2, 0, 3)
    names = [f"prefix.{at}.{kind}" for at in range(layers) for kind in ("key", "value")]
    return dict(zip(names, parts, strict=True))
