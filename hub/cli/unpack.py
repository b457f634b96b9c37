"""A zip from the hub becomes a folder: all of it or nothing."""

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from hub.errors import HubError

_BLOCK_BYTES = 1024 * 1024


def unpack(fetch: Callable[[Path], None], out: Path) -> list[str]:
    """Fetch a zip and make a folder of it.

    Args:
        fetch: writes the zip into the file that it is given.
        out: the folder, which must not exist.

    Returns:
        The names of the folder's files.

    Raises:
        HubError: the zip is broken, names a file outside the folder, or can't be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, so that the last step is a rename.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
            archive, folder = Path(temporary) / "zip", Path(temporary) / "folder"
            fetch(archive)
            names = _extract(archive, folder)
            folder.rename(out)
    except OSError as error:
        raise HubError(f"--out is {out}; it can't be written: {error}.") from error
    return names


def _extract(archive: Path, folder: Path) -> list[str]:
    folder.mkdir()
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
                    raise HubError(f"the adapter has a file {name!r}, outside its folder.")
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(name) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, _BLOCK_BYTES)
            return opened.namelist()
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise HubError(f"the adapter didn't arrive whole: {error}. Try again.") from error
