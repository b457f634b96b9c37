"""How tensors are made small for the network: one codec a file, found by the file's name.

Importing this package loads no numpy; a codec is imported when it is first asked for.
"""

import importlib
from functools import cache
from typing import TYPE_CHECKING

from wire.codecs.names import CODEC_NAMES
from wire.errors import MalformedError

if TYPE_CHECKING:
    from wire.codecs.contract import Codec

__all__ = ["CODEC_NAMES", "by_name", "catalogue"]


def catalogue() -> dict[str, "Codec"]:
    """Return every codec of this version by its name."""
    return {name: _load(name) for name in CODEC_NAMES}


def by_name(name: str) -> "Codec":
    """Return the codec of that name.

    Raises:
        MalformedError: this version has no such codec.
    """
    if name not in CODEC_NAMES:
        raise MalformedError(f"codec is {name!r}; known here are {', '.join(CODEC_NAMES)}.")
    return _load(name)


@cache
def _load(name: str) -> "Codec":
    codec: Codec = importlib.import_module(f"wire.codecs.{name}").CODEC
    return codec
