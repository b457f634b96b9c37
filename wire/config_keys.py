"""Reads numbers and switches from a model's ``config.json``, which may hold anything."""

from collections.abc import Mapping
from typing import Any

from wire.errors import MalformedError

#: Larger numbers in a config can only be mistakes or mischief.
_MAX_VALUE = 2**24


def number(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return a size.

    Args:
        config: the parsed ``config.json``.
        key: of the size.
        default: where the key is missing, or ``null``: so transformers writes a family's default.

    Raises:
        MalformedError: it is no whole number above 0, or an absurd one.
    """
    value = config.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_VALUE:
        raise MalformedError(
            f"{key} is {value!r}; must be a whole number from 1 to {_MAX_VALUE}. "
            "Is this the config.json of a causal language model?"
        )
    return value


def flag(config: Mapping[str, Any], key: str, default: bool) -> bool:
    """Return a switch.

    Raises:
        MalformedError: it is neither true nor false.
    """
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise MalformedError(f"{key} is {value!r}; must be true or false.")
    return value
