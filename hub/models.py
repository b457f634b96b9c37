"""Base models: a folder of files, named by the digest of the list of its files.

The list (the *manifest*) is JSON, ``{"files": [{"path", "sha256", "size_bytes"}, ...]}``, sorted
by path. Devices fetch it by its digest, and each file by its sha256.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from hub.errors import ConfigError, ModelError
from hub.hash_cache import HashCache
from wire.errors import MalformedError
from wire.manifest import PrefixShape, TargetShape
from wire.messages import BaseRef, ModelShape
from wire.safetensors_header import bytes_by_dtype
from wire.shape import parameter_shapes, shape_of, target_modules

#: What a model's folder may hold that a device needs. Pickles (.bin, .pt) are never served.
SUFFIXES = (".gguf", ".jinja", ".json", ".model", ".safetensors", ".txt")
MAX_JSON_BYTES = 64 * 1024 * 1024
_WEIGHT_BYTES = {"BF16": 2, "F16": 2, "F32": 4}  # of one parameter
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\Z")
_MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?\Z")

Download = Callable[[str], str]


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model's folder."""

    path: str  # its name: folders in a model's folder aren't served
    sha256: str
    size_bytes: int


class ModelManifest(msgspec.Struct, frozen=True, kw_only=True):
    """All files of a model's folder that devices need, sorted by path."""

    files: list[ModelFile]

    def encode(self) -> bytes:
        """Return canonical JSON: the same files give the same bytes, and so the same digest."""
        return msgspec.json.encode(self, order="deterministic")


class BaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """A base model on the hub's disk."""

    name: str  # the folder's name, or the Hugging Face id
    folder: Path
    manifest: ModelManifest
    digest: str  # sha256 of the manifest's bytes, hexadecimal
    shape: ModelShape
    targets: dict[str, tuple[int, int]]  # every linear layer's path -> (out, in)
    weights: dict[str, tuple[int, ...]] = {}  # every parameter's name -> its shape
    derived: list[str] = []  # kinds of files that are made of it (`wire.derived`), the best first

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.manifest.files)

    @property
    def ref(self) -> BaseRef:
        """The model as messages name it."""
        return BaseRef(
            name=self.name,
            digest=self.digest,
            size_bytes=self.size_bytes,
            shape=self.shape,
            derived=self.derived,
        )

    def prefix_shape(self) -> PrefixShape:
        """Return the sizes of a prefix in every layer."""
        shape = self.shape
        return PrefixShape(layers=shape.layers, heads=shape.kv_heads, size=shape.head_dim)

    def path_of(self, sha256: str) -> Path | None:
        """Return the file of that content, or None if the model has none."""
        for file in self.manifest.files:
            if file.sha256 == sha256:
                return self.folder / file.path
        return None

    def chosen_targets(self, targets: str | list[str]) -> dict[str, tuple[int, int]]:
        """Return the linear layers that ``lora.targets`` means.

        Args:
            targets: ``all-linear``, or ends of module paths, such as ``q_proj``.

        Raises:
            ConfigError: a name fits no layer.
        """
        if targets == "all-linear":
            return self.targets
        chosen: set[str] = set()
        for name in targets:
            fitting = [path for path in self.targets if _ends_with(path, name)]
            if not fitting:
                raise ConfigError("lora.targets", name, f"all-linear or {_ends(self.targets)}")
            chosen.update(fitting)
        return {path: shape for path, shape in self.targets.items() if path in chosen}


def target_shapes(
    targets: Mapping[str, tuple[int, int]], pattern: Mapping[str, int]
) -> dict[str, TargetShape]:
    """Return the layers that get LoRA factors, as a manifest has them.

    Args:
        targets: (out, in) by module path.
        pattern: ``lora.rank_pattern``: the first end that a path has gives its rank.

    Raises:
        ConfigError: an end fits no layer.
    """
    for end in pattern:
        if not any(_ends_with(path, end) for path in targets):
            raise ConfigError(f"lora.rank_pattern.{end}", pattern[end], "", message=(
                f"lora.rank_pattern.{end} fits no layer that gets factors; allowed are ends of "
                f"their paths: {_ends(targets)}."
            ))  # fmt: skip
    found = {
        path: TargetShape(
            outputs=out,
            inputs=inputs,
            rank=next((rank for end, rank in pattern.items() if _ends_with(path, end)), 0),
        )
        for path, (out, inputs) in targets.items()
    }
    if found and all(shape.rank for shape in found.values()):
        raise ConfigError("lora.rank_pattern", dict(pattern), "", message=(
            "lora.rank_pattern gives every layer a rank of its own, so that none has lora.rank. "
            "Leave out the layers that are to have it, and set lora.rank to theirs."
        ))  # fmt: skip
    return found


def _ends_with(path: str, end: str) -> bool:
    """Return whether a module path is, or ends with, these names."""
    return path == end or path.endswith("." + end)


def _ends(targets: Collection[str]) -> str:
    return f"any of {', '.join(sorted({path.rpartition('.')[2] for path in targets}))}"


def load_model(base: str, hashes: HashCache, download: Download | None = None) -> BaseModel:
    """Return the base model that ``model.base`` names.

    Args:
        base: a folder, or a Hugging Face id, which is fetched into Hugging Face's own cache.
        hashes: what is known of files that were hashed before.
        download: fetches an id and returns its folder; None uses huggingface_hub.

    Raises:
        ModelError: no such folder or id, no internet, or a folder that lacks what a model needs.
    """
    folder = Path(base).expanduser()
    name = folder.resolve().name
    if not folder.is_dir():
        if folder.is_file():
            raise ModelError(base, f"model.base is {base}, a file; allowed is a model's folder.")
        if not _MODEL_ID.match(base) or base.endswith(SUFFIXES):
            raise ModelError(base, f"model.base is {base}; there is no such folder on the hub.")
        folder, name = Path(_fetch(base, download or _snapshot)), base
    files = _listed(folder, base)
    config = _json_object(folder / "config.json", base)
    try:
        shape = shape_of(config, _weight_bytes(files))
        targets = target_modules(config)
        weights = parameter_shapes(config)
    except (MalformedError, ValueError) as error:
        raise ModelError(base, f"model.base is {base}: {error}") from error
    try:
        listed = [
            ModelFile(path=path.name, sha256=hashes.sha256(path), size_bytes=path.stat().st_size)
            for path in files
        ]
    except OSError as error:
        raise ModelError(base, f"model.base is {base}: can't read {error.filename}.") from error
    manifest = ModelManifest(files=listed)
    return BaseModel(
        name=name,
        folder=folder.resolve(),
        manifest=manifest,
        digest=hashlib.sha256(manifest.encode()).hexdigest(),
        shape=shape,
        targets=targets,
        weights=weights,
    )


def _listed(folder: Path, base: str) -> list[Path]:
    """Return the folder's files that devices need, by name; refuse a folder without a model."""
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    names = {path.name for path in files}
    if "config.json" not in names:
        raise ModelError(base, f"model.base is {folder}; config.json is missing there.")
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(
            base,
            f"model.base is {folder}; weights (*.safetensors) are missing there. "
            "Save the model with safe_serialization.",
        )
    index = "model.safetensors.index.json"
    if index in names:
        weight_map = _json_object(folder / index, base).get("weight_map")
        shards = set(weight_map.values()) if isinstance(weight_map, dict) else set()
        missing = sorted(str(shard) for shard in shards - names)
        if missing:
            raise ModelError(
                base, f"model.base is {folder}; {', '.join(missing)} is missing there."
            )
    for name in names:
        if not _FILE_NAME.match(name):
            raise ModelError(
                base,
                f"model.base is {folder}; the file name {name!r} has characters other than "
                "letters, digits, '.', '_' and '-'. Rename it.",
            )
    return files


def _weight_bytes(files: list[Path]) -> int:
    """Return the bytes of one stored parameter, by the type that most weights have."""
    totals: dict[str, int] = {}
    for path in files:
        if path.suffix == ".safetensors":
            for dtype, size_bytes in bytes_by_dtype(path).items():
                totals[dtype] = totals.get(dtype, 0) + size_bytes
    dtype = max(totals, key=lambda name: totals[name], default="nothing")
    if dtype not in _WEIGHT_BYTES:
        raise ValueError(f"weights are stored as {dtype}; allowed is BF16, F16 or F32")
    return _WEIGHT_BYTES[dtype]


def _json_object(path: Path, base: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(base, f"{path} is larger than {MAX_JSON_BYTES} bytes.")
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(base, f"{path} can't be read: {error}") from error


def _fetch(base: str, download: Download) -> str:
    try:
        return download(base)
    except (OSError, ValueError, httpx.HTTPError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelError(
            base,
            f"model.base is {base}; it is no folder on the hub, and it can't be fetched from "
            f"Hugging Face: {reason} Give a folder, or an id that exists, with internet access.",
        ) from error


def _snapshot(base: str) -> str:
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    return str(snapshot_download(base, allow_patterns=wanted, ignore_patterns=["*/*"]))
