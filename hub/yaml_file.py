"""YAML files: read with a size cap, checked key by key, turned into frozen structs."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from hub.errors import ConfigError, shown
from hub.yaml_text import file_error, join, load_mapping

MAX_FILE_BYTES = 256 * 1024

T = TypeVar("T")
Info = TypeVar("Info", bound=inspect.Type)
_AT = re.compile(r" - at `\$(?P<path>[^`]*)`\Z")


def read_text(path: Path) -> str:
    """Return a configuration file's text.

    Raises:
        ConfigError: it can't be read, has more than `MAX_FILE_BYTES`, or isn't UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise file_error(path, f"can't be read: {error.strerror or error}") from error
    return decode_text(data, str(path))


def decode_text(data: bytes, source: str) -> str:
    """Return bytes as text.

    Raises:
        ConfigError: there are more than `MAX_FILE_BYTES`, or they aren't UTF-8.
    """
    if len(data) > MAX_FILE_BYTES:
        raise file_error(source, f"is too large; at most {MAX_FILE_BYTES} bytes are read")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise file_error(source, f"is not UTF-8 text (byte {error.start})") from error


def parse_yaml(text: str, kind: type[T], source: str) -> T:
    """Return the struct that a YAML text describes.

    Args:
        text: one YAML document.
        kind: a frozen msgspec struct; `pathlib.Path` is allowed as a field's type.
        source: how errors that concern the whole file name it.

    Raises:
        ConfigError: not YAML, a key that is twice there, unknown or missing, or a value that is
            not allowed; the error names the key's path.
    """
    data = load_mapping(text, source)
    info = inspect.type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{kind!r} is not a msgspec struct")
    _check_keys(data, info, _all_keys(info))
    try:
        return msgspec.convert(data, kind, dec_hook=_path_only)
    except msgspec.ValidationError as error:
        raise _not_allowed(data, info, str(error)) from error


def _check_keys(
    data: Mapping[str, Any], info: inspect.StructType, known: list[str], path: str = ""
) -> None:
    fields = {field.encode_name: field for field in info.fields}
    for key, value in data.items():
        below = join(path, key)
        if key not in fields:
            raise _unknown(below, value, known, [join(path, name) for name in fields])
        inner = fields[key].type
        if isinstance(inner, inspect.StructType) and isinstance(value, dict):
            _check_keys(value, inner, known, below)
    for key, field in fields.items():
        if field.required and key not in data:
            below = join(path, key)
            allowed = _allowed(field.type)
            raise ConfigError(
                below, None, allowed, message=f"{below} is missing; it is required ({allowed})."
            )


def _unknown(path: str, value: object, known: list[str], here: list[str]) -> ConfigError:
    """Return the error of a key that isn't known, with the one that was probably meant."""
    leaf = path.rpartition(".")[2]
    moved = [key for key in known if key.rpartition(".")[2] == leaf]
    close = get_close_matches(path, here, 1, 0.6) or moved or get_close_matches(path, known, 1, 0.8)
    hint = f"did you mean {close[0]}? " if close else ""
    allowed = ", ".join(here)
    return ConfigError(
        path, value, allowed, message=f"{path} is not known; {hint}Allowed here: {allowed}."
    )


def _all_keys(info: inspect.StructType, path: str = "") -> list[str]:
    found = []
    for field in info.fields:
        below = join(path, field.encode_name)
        found.append(below)
        if isinstance(field.type, inspect.StructType):
            found += _all_keys(field.type, below)
    return found


def _not_allowed(data: Any, info: inspect.Type, message: str) -> ConfigError:
    """Turn msgspec's message into ours: the path's end names the value and its type."""
    match = _AT.search(message)
    path = ""
    for level in re.findall(r"[^.\[\]]+", match["path"] if match else ""):
        if isinstance(data, list):
            path, data = f"{path}[{level}]", data[int(level)]
            info = next(_members(info, inspect.ListType)).item_type
        else:
            path, data = join(path, level), data[level]
            struct = next(_members(info, inspect.StructType))
            info = next(field.type for field in struct.fields if field.encode_name == level)
    return ConfigError(path, data, _allowed(info))


def _members(info: inspect.Type, kind: type[Info]) -> Iterator[Info]:
    types = info.types if isinstance(info, inspect.UnionType) else (info,)
    return (member for member in types if isinstance(member, kind))


def _allowed(info: inspect.Type) -> str:
    """Return in words what a field's type allows."""
    match info:
        case inspect.UnionType():
            # Names first: "auto or a number above 0".
            parts = sorted(info.types, key=lambda part: not isinstance(part, inspect.LiteralType))
            words = " or ".join(_allowed(part) for part in parts)
        case inspect.LiteralType():
            words = one_of(str(value) for value in info.values)
        case inspect.IntType() | inspect.FloatType():
            words = _range(info)
        case inspect.ListType():
            words = f"a list of {_allowed(info.item_type)}"
        case inspect.StructType():
            words = f"a mapping with the keys {', '.join(f.encode_name for f in info.fields)}"
        case inspect.NoneType():
            words = "null"
        case inspect.BoolType():
            words = "true or false"
        case _:
            words = "text"
    return words


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    noun = "a whole number" if isinstance(info, inspect.IntType) else "a number"
    parts = [
        f"{word} {limit}"
        for word, limit in (("above", info.gt), ("from", info.ge), ("to", info.le))
        if limit is not None
    ]
    return " ".join([noun, *parts])


def one_of(values: Iterable[str]) -> str:
    """Return names as a sentence lists them: ``a, b or c``."""
    names = list(values)
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _path_only(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError(f"not a path: {shown(value)}")
