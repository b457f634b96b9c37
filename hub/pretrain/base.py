"""The base of a job of method ``pretrain``: made once, and kept in the hub's state.

The folder's name is a hash of all that went into it, so that the same job file with the same seed
finds the same base again.
"""

import hashlib
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from hub.errors import ConfigError, HubError
from hub.hash_cache import HashCache
from hub.job_parts import PretrainPart
from hub.pretrain.build import Recipe
from hub.pretrain.text import text_files
from wire.errors import WireError
from wire.model_file import read_json_object
from wire.shape import parameter_shapes

_CONFIG = "config.json"


def pretrain_base(part: PretrainPart, seed: int, folder: Path, hashes: HashCache) -> Path:
    """Return the folder of a job's base, which is made first if it isn't there.

    Args:
        part: of the job file.
        seed: of the weights.
        folder: for such bases.
        hashes: what is known of files that were hashed before.

    Raises:
        ConfigError: a path leads nowhere or to something else; the error names the key.
        HubError: making it failed.
    """
    recipe, files = _recipe(part, seed)
    if importlib.util.find_spec("tokenizers") is None:
        raise ConfigError(
            "method",
            "pretrain",
            "full",
            message="method is pretrain; training a tokenizer takes the package tokenizers, which "
            "is missing at the hub. Install the extra 'hub', or use method full with model.base.",
        )
    base = folder / f"pretrain-{_key(recipe, [hashes.sha256(file) for file in files])}"
    if (base / _CONFIG).is_file():
        return base
    folder.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{base.name}-", dir=folder))
    try:
        _build(recipe, building)
        if not (base / _CONFIG).is_file():  # another request may have been faster
            building.rename(base)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return base


def _recipe(part: PretrainPart, seed: int) -> tuple[Recipe, list[Path]]:
    path = Path(part.config or "").expanduser()
    path = path / _CONFIG if path.is_dir() else path
    try:
        config = read_json_object(path)
        parameter_shapes(config | {"vocab_size": part.vocabulary})
    except WireError as error:
        raise ConfigError(
            "pretrain.config",
            part.config,
            f"a model's {_CONFIG}",
            message=f"pretrain.config is {part.config}: {error}",
        ) from error
    text = Path(part.tokenizer_text or "").expanduser().resolve()
    return Recipe(config=config, text=str(text), vocabulary=part.vocabulary, seed=seed), text_files(
        text
    )


def _key(recipe: Recipe, files: list[str]) -> str:
    parts = [
        msgspec.json.encode(msgspec.structs.replace(recipe, text=""), order="deterministic"),
        importlib.metadata.version("tokenizers").encode(),
        *(sha256.encode() for sha256 in files),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _build(recipe: Recipe, out: Path) -> None:
    command = [sys.executable, "-m", "hub.pretrain.build", "--out", str(out)]
    command += ["--recipe", msgspec.json.encode(recipe).decode()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "".join(done.stderr.strip().splitlines()[-1:])
        raise HubError(
            f"the base of method pretrain can't be made (exit code {done.returncode}): {last}"
        )
