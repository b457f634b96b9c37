"""The shape of a model on disk, as the planner wants it: sizes, and how the file holds them."""

from collections import Counter
from pathlib import Path

import msgspec

from edge_agent.errors import ModelError
from wire.errors import WireError
from wire.gguf_header import GgufTensor
from wire.messages import ModelShape
from wire.model_file import config_of, tensors_of, weight_files
from wire.shape import shape_of

_WEIGHT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def model_shape(path: Path) -> ModelShape:
    """Return a model's shape; a folder's ``config.json`` alone will do.

    Args:
        path: a Hugging Face folder, a folder with one GGUF file, a GGUF file, or a ``config.json``.

    Raises:
        ModelError: it can't be used.
    """
    folder = path.parent if path.name == "config.json" else path
    try:
        config = config_of(folder)
        dtype = str(config.get("dtype", config.get("torch_dtype")))
        shape = shape_of(config, _WEIGHT_BYTES.get(dtype, 4))
    except (OSError, WireError) as error:
        raise ModelError(f"--model is {path}: {error}") from error
    try:
        files = weight_files(folder)
    except WireError:
        return shape  # the configuration says how its weights would be stored
    try:
        tensors = [tensor for file in files for tensor in tensors_of(file).values()]
    except (OSError, WireError) as error:
        raise ModelError(f"--model is {path}: {error}") from error
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        kind = tensor.kind if isinstance(tensor, GgufTensor) else tensor.dtype
        sizes[kind.lower()] += tensor.size_bytes
    total = sum(sizes.values())
    if not total:
        raise ModelError(f"--model is {path}: {files[0].name} holds no weights. Fetch it again.")
    return msgspec.structs.replace(
        shape,
        weight_bytes=max(1, -(-total // shape.parameters)),
        format="gguf" if files[0].suffix == ".gguf" else "safetensors",
        stored=sizes.most_common(1)[0][0],
        stored_bytes=total,
    )
