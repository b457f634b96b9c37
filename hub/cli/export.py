"""What ``lorikeet-hub adapter export`` writes beyond PEFT's folder: files for engines.

The command line does the work, not the hub: it fetches the adapter and what of the base is needed.
"""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from hub.cli.client import HubClient
from hub.cli.unpack import unpack
from hub.errors import ConfigError, HubError
from hub.export.base_type import BaseType
from hub.export.engine_folder import (
    is_whole_model,
    write_gguf_folder,
    write_merged_folder,
    write_onnx_folder,
)
from hub.hash_cache import HashCache, hash_file
from hub.models import ModelManifest, load_model


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote."""

    files: list[str]
    base_sha256: str  # of the base's manifest
    sha256: dict[str, str]  # of each file, by its name
    notes: list[str]


def export_gguf(
    client: HubClient, job: str, out: Path, stored: BaseType | None, base: Path | None
) -> Exported:
    """Write a job's adapter as GGUF, and its base unless ``stored`` is None.

    Args:
        client: of the hub.
        job: its name.
        out: a folder that isn't there yet.
        stored: type of the base's matrices.
        base: the base's folder on this machine; None fetches it from the hub.

    Raises:
        HubError, WireError: it can't be fetched, exported or written; nothing is left behind.
    """
    needed = _is_config if stored is None else _is_any

    def write(adapter: Path, folder: Path, digest: str, made: Path) -> list[str]:
        return write_gguf_folder(adapter, folder, digest, made, stored)

    return _export(client, job, out, base, needed=needed, write=write)


def export_onnx(
    client: HubClient, job: str, out: Path, stored: BaseType | None, base: Path | None
) -> Exported:
    """Write a job's adapter, and its base unless ``stored`` is None, for ONNX Runtime.

    Arguments and errors as above.
    """

    def write(adapter: Path, folder: Path, digest: str, made: Path) -> list[str]:
        return write_onnx_folder(adapter, folder, digest, made, stored)

    needed = _is_config if stored is None else _is_any
    return _export(client, job, out, base, needed=needed, write=write)


def export_merged(client: HubClient, job: str, out: Path, base: Path | None) -> Exported:
    """Write a job's base with the adapter in its weights; arguments and errors as above."""
    return _export(client, job, out, base, needed=_is_any, write=write_merged_folder)


def _is_config(name: str) -> bool:
    return name == "config.json"


def _is_any(_name: str) -> bool:
    return True


def _export(
    client: HubClient,
    job: str,
    out: Path,
    base: Path | None,
    *,
    needed: Callable[[str], bool],
    write: Callable[[Path, Path, str, Path], list[str]],
) -> Exported:
    digest = client.job(job).summary.base_digest
    if not digest:
        raise HubError("the hub doesn't tell its base's digest; it is older than this program.")
    if base is not None:
        _check(base, digest)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, so that the last step is a rename.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
            adapter, made = Path(temporary) / "adapter", Path(temporary) / "made"
            unpack(lambda target: client.adapter(job, target), adapter)
            folder = base or Path(temporary) / "base"
            if base is None and not is_whole_model(adapter):
                _fetch(client, digest, folder, needed)
            made.mkdir()
            notes = write(adapter, folder, digest, made)
            names = sorted(path.name for path in made.iterdir())
            hashes = {name: hash_file(made / name) for name in names}
            made.rename(out)
    except OSError as error:
        raise HubError(f"--out is {out}; it can't be written: {error}.") from error
    return Exported(files=names, base_sha256=digest, sha256=hashes, notes=notes)


def _check(base: Path, digest: str) -> None:
    found = load_model(str(base), HashCache()).digest
    if found != digest:
        message = (
            f"--base is {base}, whose files have the digest {found[:12]}; the job's base has "
            f"{digest[:12]}. Name a copy of that base, or leave --base out to fetch it."
        )
        raise ConfigError("--base", str(base), "the job's base", message=message)


def _fetch(client: HubClient, digest: str, folder: Path, needed: Callable[[str], bool]) -> None:
    """Fetch a base's files, each checked by its sha256."""
    folder.mkdir()
    data = client.model_manifest(digest)
    if hashlib.sha256(data).hexdigest() != digest:
        raise HubError("the hub's list of the base's files isn't the one that the job names.")
    for file in msgspec.json.decode(data, type=ModelManifest).files:
        # A name with a folder in it would lead elsewhere.
        if not needed(file.path) or Path(file.path).name != file.path:
            continue
        client.blob(file.sha256, folder / file.path)
        if hash_file(folder / file.path) != file.sha256:
            raise HubError(f"{file.path} of the base didn't arrive as it was sent. Try again.")
