"""Makes parts of an adapter of older ones and differences, before a task begins."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_agent.errors import AdapterError, DifferenceError
from edge_agent.protocol import Following, Work
from wire.blobs import BlobStore
from wire.errors import MalformedError, WireError
from wire.frames import follow
from wire.manifest import AdapterManifest


def manifest_of(work: Work) -> AdapterManifest:
    """Return the manifest of a task's adapter.

    Raises:
        AdapterError: it can't be read, or says something impossible.
    """
    try:
        return AdapterManifest.decode(Path(work.manifest).read_bytes())
    except (MalformedError, OSError) as error:
        raise AdapterError(f"the adapter's manifest: {error}") from error


def follow_all(work: Work, manifest: AdapterManifest) -> dict[str, Path]:
    """Return the files of all parts of a task's adapter by sha256; missing ones are made.

    Raises:
        DifferenceError: a part does not come to what the manifest says.
    """
    parts = {sha256: Path(path) for sha256, path in work.parts.items()}
    return follow_parts(parts, work.following, manifest, Path(work.out), Path(work.blobs))


def follow_parts(
    parts: Mapping[str, Path],
    following: Sequence[Following],
    manifest: AdapterManifest,
    folder: Path,
    blobs: Path,
) -> dict[str, Path]:
    """Return the files of all parts of an adapter by sha256; missing ones are made.

    What is made goes into the blob store, so that the next difference can be added to it.

    Args:
        parts: files of those that are here.
        following: how the others are made.
        manifest: of the adapter.
        folder: for drafts.
        blobs: folder of the blob store.

    Raises:
        DifferenceError: a part does not come to what the manifest says.
    """
    paths = dict(parts)
    for one in following:
        paths[one.part] = _made(one, manifest, folder, BlobStore(blobs))
    return paths


def _made(one: Following, manifest: AdapterManifest, folder: Path, store: BlobStore) -> Path:
    part = next((part for part in manifest.parts if part.sha256 == one.part), None)
    if part is None:
        raise DifferenceError(f"part {one.part[:12]} is not in the adapter's manifest.")
    draft = folder / "part.packed"
    differences = [Path(path) for path in one.differences]
    try:
        with draft.open("wb") as file:
            follow(file, Path(one.held), differences, manifest.expected(part), part.codec)
        sha256 = store.put_file(draft)
    except (WireError, OSError) as error:
        raise DifferenceError(f"part {one.part[:12]} can't be made: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    path = store.path(sha256)
    if sha256 != one.part or path is None:
        store.delete(sha256)
        raise DifferenceError(
            f"{len(differences)} differences come to {sha256[:12]}, not to {one.part[:12]}."
        )
    return path
