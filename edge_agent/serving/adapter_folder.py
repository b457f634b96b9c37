"""An adapter from a folder: PEFT's, or what the hub exports as such; without PEFT or torch."""

import hashlib
from pathlib import Path

from edge_agent.inference.contract import Adapter, Array, Factors
from edge_agent.inference.errors import EngineError
from wire.errors import MalformedError, WireError
from wire.lora_folder import WEIGHTS, LoraFolder
from wire.model_file import read_json_object
from wire.safetensors_header import read_header
from wire.safetensors_numbers import READABLE, read_numbers

#: The soft prompt's folder in a hub's export: PEFT keeps one kind in one folder.
_PROMPT_FOLDER = "prompt"
_STORED = "prompt_embeddings"


def read_adapter_folder(folder: Path) -> Adapter:
    """Return the adapter of a folder; its name is a hash of its files.

    Args:
        folder: of PEFT, LoRA or prompt tuning; or LoRA with a soft prompt in ``prompt``.

    Raises:
        EngineError: it is none of those, or broken.
    """
    try:
        kind = read_json_object(folder / "adapter_config.json").get("peft_type")
        factors: dict[str, Factors] = {}
        if kind == "LORA":
            lora = LoraFolder(folder)
            factors = {target: Factors(*lora.pair(target)) for target in lora.shapes}
            beside = folder / _PROMPT_FOLDER
            prompt = _prompt(beside) if beside.is_dir() else None
        else:
            prompt = _prompt(folder)
    except (WireError, OSError) as error:
        raise EngineError(f"the adapter can't be served: {error}") from error
    return Adapter(_name(folder), factors, prompt)


def _prompt(folder: Path) -> Array:
    """Return the soft prompt of a folder, (tokens, hidden)."""
    kind = read_json_object(folder / "adapter_config.json").get("peft_type")
    if kind != "PROMPT_TUNING":
        raise MalformedError(
            f"{folder} holds an adapter of kind {str(kind)[:60]}; engines take LORA and "
            "PROMPT_TUNING. Merge another one into its base: lorikeet-hub adapter export "
            "--format merged"
        )
    file = folder / WEIGHTS
    stored = read_header(file).get(_STORED)
    if stored is None or len(stored.shape) != 2 or stored.dtype not in READABLE:
        raise MalformedError(f"{file} holds no matrix {_STORED}.")
    return read_numbers(file, stored).astype("float32")


def _name(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("adapter_*")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
