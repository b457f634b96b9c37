"""Small bases and adapters on disk, as the worker finds them."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from wire.codecs import by_name
from wire.manifest import AdapterManifest, AdapterPart, TargetShape
from wire.shape import target_modules
from wire.tensors import pack

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "vocab_size": 259,
    "bos_token_id": 257,
    "eos_token_id": 258,
    "pad_token_id": 256,
}


@dataclass(frozen=True)
class SavedAdapter:
    """An adapter's files, and the values in them."""

    manifest: AdapterManifest
    manifest_file: Path
    parts: dict[str, Path]
    tensors: dict[str, np.ndarray]


def save_tokenizer(folder: Path, chat_template: str | None = None) -> None:
    """Write a tokenizer whose first 256 tokens are bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ("<pad>", "<s>", "</s>")
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    if chat_template is not None:
        settings["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def write_tokenizer() -> Callable[..., None]:
    """Return `save_tokenizer`."""
    return save_tokenizer


@pytest.fixture(scope="session")
def make_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that saves a random model of a family with a tokenizer of bytes."""

    def make(family: str = "llama", **sizes: int) -> Path:
        import torch
        import transformers

        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(1)
        config = transformers.AutoConfig.for_model(family, **{**SIZES, **sizes})
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():  # larger than the usual start, so that a difference shows
            for value in model.parameters():
                if value.ndim > 1:
                    value.normal_(std=0.2)
        model.save_pretrained(folder)
        save_tokenizer(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def llama(make_base: Callable[..., Path]) -> Path:
    """Return the folder of a Llama of two layers."""
    return make_base("llama")


@pytest.fixture(scope="session")
def qwen2(make_base: Callable[..., Path]) -> Path:
    """Return the folder of a Qwen2 of two layers."""
    return make_base("qwen2")


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., SavedAdapter]:
    """Return a function that saves a random adapter for a base folder."""

    def make(
        base: Path, rank: int = 4, tokens: int = 3, scale: float = 0.1, slices: int = 1
    ) -> SavedAdapter:
        config = json.loads((base / "config.json").read_text())
        shapes = {
            name: TargetShape(inputs=inputs, outputs=out)
            for name, (out, inputs) in target_modules(config).items()
        }
        empty = AdapterManifest(
            job="test",
            round=1,
            base="0" * 64,
            rank=rank,
            tokens=tokens,
            shapes=shapes if rank else {},
            hidden_size=config["hidden_size"],
            parts=[],
        )
        rng = np.random.default_rng(5)
        expected = empty.expected_lora(rank) | empty.expected_prompt()
        tensors = {
            name: (scale * rng.standard_normal(shape)).astype(np.float32)
            for name, shape in expected.items()
        }
        lora = {name: value for name, value in tensors.items() if name != "prompt"}
        sets = [("lora", i, part) for i, part in enumerate(_sliced(lora, slices))] if rank else []
        sizes = [len(one) for one in np.array_split(np.arange(rank), slices)]
        if tokens:
            sets.append(("prompt", 0, {"prompt": tensors["prompt"]}))
        files: dict[str, Path] = {}
        parts = []
        for name, index, content in sets:
            data = pack(content, by_name("raw"), seed=0)
            sha256 = hashlib.sha256(data).hexdigest()
            files[sha256] = tmp_path / sha256
            files[sha256].write_bytes(data)
            parts.append(
                AdapterPart(
                    name=name,
                    slice=index,
                    rank=sizes[index] if name == "lora" and slices > 1 else 0,
                    sha256=sha256,
                    size_bytes=len(data),
                    codec="raw",
                )
            )
        manifest = AdapterManifest.decode(msgspec.structs.replace(empty, parts=parts).encode())
        path = tmp_path / "manifest.json"
        path.write_bytes(manifest.encode())
        return SavedAdapter(manifest, path, files, tensors)

    return make


def _sliced(tensors: dict[str, np.ndarray], slices: int) -> list[dict[str, np.ndarray]]:
    """Split A by rows and B by columns."""
    cut: list[dict[str, np.ndarray]] = [{} for _ in range(slices)]
    for name, value in tensors.items():
        axis = 0 if name.endswith("lora_A") else 1
        for part, piece in zip(cut, np.array_split(value, slices, axis=axis), strict=True):
            part[name] = piece
    return cut
