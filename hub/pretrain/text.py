"""Public text for a tokenizer, in the forms in which devices hold theirs, a line at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from hub.errors import ConfigError

SUFFIXES = (".jsonl", ".txt")
_KEY = "pretrain.tokenizer_text"
#: A longer line is cut: a tokenizer needs no context.
_MAX_LINE_BYTES = 1024 * 1024


class _Line(msgspec.Struct, frozen=True):
    text: str = ""
    prompt: str = ""
    response: str = ""


def text_files(path: Path) -> list[Path]:
    """Return the files of a path: itself, or those below it, sorted; links are passed over.

    Raises:
        ConfigError: there is none; the error names ``pretrain.tokenizer_text``.
    """
    if path.is_dir():
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix in SUFFIXES and file.is_file() and not file.is_symlink()
        )
    else:
        found = [path] if path.is_file() and path.suffix in SUFFIXES else []
    if not found:
        raise ConfigError(
            _KEY, str(path), f"a file that ends in {' or '.join(SUFFIXES)}, or a folder of such"
        )
    return found


def texts(files: list[Path]) -> Iterator[str]:
    """Yield the text of each line; one that isn't UTF-8, or not such JSON, is passed over.

    Raises:
        OSError: a file can't be read.
    """
    for path in files:
        with path.open("rb") as file:
            yield from _jsonl(file) if path.suffix == ".jsonl" else _lines(file)


def _lines(file: BinaryIO) -> Iterator[str]:
    while line := file.readline(_MAX_LINE_BYTES):
        try:
            yield line.decode()
        except UnicodeDecodeError:
            continue


def _jsonl(file: BinaryIO) -> Iterator[str]:
    for line in _lines(file):
        try:
            parsed = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, RecursionError):
            continue
        yield from (part for part in (parsed.text, parsed.prompt, parsed.response) if part)
