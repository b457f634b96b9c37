"""A job's adapter in a form that engines load: GGUF or ONNX files, or a merged model."""

import shutil
from pathlib import Path

from hub.export.base_type import BaseType
from hub.export.gguf.adapter import write_adapter
from hub.export.gguf.base import write_base
from hub.export.merged import write_merged
from hub.export.onnx.adapter import write_adapter as write_onnx_adapter
from hub.export.onnx.base import write_base as write_onnx_base
from hub.export.prompt_file import prompt_tensors, write_prompt_file
from wire.errors import MalformedError
from wire.whole_model import BESIDE_WEIGHTS

ADAPTER_FILE = "adapter.gguf"
ONNX_ADAPTER_FILE = "adapter.onnx_adapter"
_TOKENIZER = "tokenizer.json"
_INDEX = "model.safetensors.index.json"


def write_gguf_folder(
    adapter: Path, base: Path, digest: str, out: Path, stored: BaseType | None
) -> list[str]:
    """Write ``adapter.gguf``, and the base as ``base-TYPE.gguf``.

    Of a job that trained all weights there is ``model-TYPE.gguf`` alone.

    Args:
        adapter: a job's adapter folder, as `hub.export.peft_folder` makes it.
        base: the base's Hugging Face folder; only its ``config.json`` without the base.
        digest: of the base's manifest; both files carry it.
        out: an existing, empty folder.
        stored: type of the base's matrices; None leaves the base out.

    Returns:
        What whoever takes the files must know, a sentence each.

    Raises:
        WireError: llama.cpp can't have this base or this adapter; the message says why.
        OSError: a file can't be read or written.
    """
    if is_whole_model(adapter):
        if stored is None:
            raise MalformedError("all weights were trained; there is no adapter to export alone.")
        return _write_model(adapter, out, f"model-{stored}.gguf", stored, digest)
    notes: list[str] = []
    if _has_lora(adapter):
        write_adapter(adapter, base, out / ADAPTER_FILE, digest)
    if stored is not None:
        notes += _write_model(base, out, f"base-{stored}.gguf", stored, digest)
    beside = write_prompt_file(adapter, out, digest)
    if beside is not None:
        notes.append(f"GGUF has no place for a prompt; it stands in {beside}.")
    return notes


def _write_model(model: Path, out: Path, name: str, stored: BaseType, digest: str) -> list[str]:
    problem = write_base(model, out / name, stored, digest)
    if problem is None:
        return []
    if (model / _TOKENIZER).is_file():
        (out / _TOKENIZER).write_bytes((model / _TOKENIZER).read_bytes())
    return [f"{name} has no tokenizer and takes ids alone: {problem}"]


def write_onnx_folder(
    adapter: Path, base: Path, digest: str, out: Path, stored: BaseType | None
) -> list[str]:
    """Write ``adapter.onnx_adapter``, and the base as ``base-TYPE.onnx`` with its ``.data``.

    The base's tokenizer and configuration go along with it. Of a job that trained all weights there
    is ``model-TYPE.onnx`` alone. Arguments and errors are those of `write_gguf_folder`.
    """
    if is_whole_model(adapter):
        if stored is None:
            raise MalformedError("all weights were trained; there is no adapter to export alone.")
        _write_onnx_model(adapter, out, f"model-{stored}.onnx", stored, digest)
        return []
    notes: list[str] = []
    prompt = prompt_tensors(adapter) or {}
    if _has_lora(adapter) or "prompt" in prompt:
        write_onnx_adapter(adapter, base, out / ONNX_ADAPTER_FILE, digest)
    if stored is not None:
        _write_onnx_model(base, out, f"base-{stored}.onnx", stored, digest)
    if prompt and "prompt" not in prompt:
        beside = write_prompt_file(adapter, out, digest)
        notes.append(f"a prefix is no adapter's in ONNX; it stands in {beside}, as a first past.")
    return notes


def _write_onnx_model(model: Path, out: Path, name: str, stored: BaseType, digest: str) -> None:
    write_onnx_base(model, out / name, stored, digest)
    for path in sorted(model.iterdir()):
        if path.suffix in BESIDE_WEIGHTS and path.name != _INDEX and path.is_file():
            shutil.copyfile(path, out / path.name)


def write_merged_folder(adapter: Path, base: Path, digest: str, out: Path) -> list[str]:
    """Write the base with the adapter in its weights; arguments and errors as above."""
    if is_whole_model(adapter):
        raise MalformedError("all weights were trained; export them with --format model.")
    if not _has_lora(adapter):
        raise MalformedError(
            "a prompt alone can't be merged into weights. Export it with --format peft."
        )
    write_merged(adapter, base, out, digest)
    beside = write_prompt_file(adapter, out, digest)
    return [] if beside is None else [f"weights have no place for a prompt; it stands in {beside}."]


def is_whole_model(adapter: Path) -> bool:
    """Return whether a job trained all weights: its folder then holds a model."""
    return (adapter / "config.json").is_file()


def _has_lora(adapter: Path) -> bool:
    return (adapter / "adapter_config.json").is_file()
