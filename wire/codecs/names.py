"""The names of all codecs, from the folder's listing: known without importing numpy."""

import pkgutil
from pathlib import Path

_NOT_CODECS = {"contract", "names"}

#: In alphabetical order; a codec's name is the name of its file.
CODEC_NAMES: tuple[str, ...] = tuple(
    sorted(
        module.name
        for module in pkgutil.iter_modules([str(Path(__file__).parent)])
        if module.name not in _NOT_CODECS
    )
)
