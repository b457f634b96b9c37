"""Private text, streamed from files; it stays in this process.

`.jsonl` holds one object a line, with ``prompt`` and ``response`` or with ``text``; `.txt` is cut
into passages. A tenth of the examples, chosen by content alone, is held out from training: the
same text falls on the same side on every device, in every round, wherever it stands.
"""

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from edge_agent.errors import DataError
from wire.messages import DataSummary

Part = Literal["train", "held_out"]

SUFFIXES = (".jsonl", ".txt")
PASSAGE_CHARACTERS = 1000
#: A longer line is broken; it bounds what is in memory at once.
MAX_LINE_BYTES = 1024 * 1024
_ONE_IN = 10


class Example(NamedTuple):
    """One piece of text; with a prompt, only the response is learnt."""

    prompt: str | None
    text: str  # the response, where there is a prompt


class _Line(msgspec.Struct):
    prompt: str | None = None
    response: str | None = None
    text: str | None = None


def read(paths: Sequence[str | Path]) -> Iterator[Example | None]:
    """Yield every example, and None for each broken line, in a fixed order.

    Args:
        paths: files, or folders that are searched for `.jsonl` and `.txt`.

    Raises:
        DataError: a path is absent, unreadable, or neither.
    """
    for number, path in enumerate(paths, start=1):
        for file in _files(Path(path), number):
            try:
                with file.open("rb") as opened:
                    yield from _jsonl(opened) if file.suffix == ".jsonl" else _passages(opened)
            except OSError as error:
                raise DataError(
                    f"data path {number} can't be read ({type(error).__name__}). "
                    "Check the file's permissions."
                ) from None


def is_held_out(example: Example) -> bool:
    """Return whether an example is in the tenth that none trains on."""
    return int.from_bytes(_digest(example)[:8], "big") % _ONE_IN == 0


def count(paths: Sequence[str | Path]) -> DataSummary:
    """Count examples (held-out ones among them) and broken lines, in bounded memory.

    Raises:
        DataError: a path can't be used, or no example is left.
    """
    examples = held_out = skipped = 0
    for example in read(paths):
        if example is None:
            skipped += 1
        else:
            examples += 1
            held_out += is_held_out(example)
    if not examples:
        raise DataError(_nothing(len(paths), skipped))
    return DataSummary(examples=examples, held_out=held_out, skipped=skipped)


def draw(paths: Sequence[str | Path], part: Part, characters: int, seed: int) -> list[Example]:
    """Return a random choice of one part, in random order, both fixed by the seed.

    Memory is bounded by ``characters`` and the longest line, however large the files are: each
    example gets a pseudo-random key from its content, and those of the smallest keys are kept.

    Args:
        paths: as for `read`.
        part: which side of the split.
        characters: how much text suffices; the last example may go beyond it.
        seed: another one gives another choice.

    Returns:
        At least one example for ``train``; for ``held_out`` maybe none.

    Raises:
        DataError: a path can't be used, or there is nothing to train on.
    """
    kept: list[tuple[int, int, Example]] = []  # heap, the largest key first
    size = examples = skipped = 0
    for order, example in enumerate(read(paths)):
        if example is None:
            skipped += 1
            continue
        examples += 1
        if is_held_out(example) != (part == "held_out"):
            continue
        key = hashlib.sha256(seed.to_bytes(8, "big", signed=True) + _digest(example)).digest()
        heapq.heappush(kept, (-int.from_bytes(key, "big"), order, example))
        size += _size(example)
        while len(kept) > 1 and size - _size(kept[0][2]) >= characters:
            size -= _size(heapq.heappop(kept)[2])
    if not examples:
        raise DataError(_nothing(len(paths), skipped))
    if part == "train" and not kept:
        raise DataError(
            f"all {examples} examples are in the held-out tenth; nothing is left to train on. "
            "Add more text."
        )
    return [example for _, _, example in sorted(kept, key=lambda item: (-item[0], item[1]))]


def _digest(example: Example) -> bytes:
    content = (example.prompt or "") + "\0" + example.text
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()


def _size(example: Example) -> int:
    return len(example.prompt or "") + len(example.text)


def _nothing(paths: int, skipped: int) -> str:
    return (
        f"no usable example in {paths} data paths; {skipped} broken lines were skipped. "
        "Give .jsonl lines with prompt and response, or text; or .txt files."
    )


def _files(path: Path, number: int) -> list[Path]:
    if path.is_dir():
        # Symbolic links are left out: one that leads outside could give away other files.
        return sorted(
            file
            for file in path.rglob("*")
            if file.suffix in SUFFIXES and file.is_file() and not file.is_symlink()
        )
    if not path.exists():
        raise DataError(f"data path {number} does not exist. Check --data.")
    if path.suffix not in SUFFIXES:
        raise DataError(
            f"data path {number} is not a folder and ends in none of {', '.join(SUFFIXES)}. "
            "Convert it, or give its folder."
        )
    return [path]


def _lines(file: BinaryIO) -> Iterator[str | None]:
    """Yield each line, None for one that is too long or not UTF-8."""
    first = True
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)
            yield None
            continue
        try:
            yield line.decode("utf-8-sig" if first else "utf-8")
        except UnicodeDecodeError:
            yield None
        first = False


def _jsonl(file: BinaryIO) -> Iterator[Example | None]:
    for line in _lines(file):
        if line is None or line.strip():
            yield None if line is None else _example(line)


def _example(line: str) -> Example | None:
    try:
        parsed = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, RecursionError):
        return None
    if parsed.prompt and parsed.response:
        return Example(parsed.prompt, parsed.response)
    if parsed.text and parsed.text.strip():
        return Example(None, parsed.text)
    return None


def _passages(file: BinaryIO) -> Iterator[Example | None]:
    """Cut at a paragraph's end where the passage is half full, else at a line's or a word's."""
    passage = ""
    for line in _lines(file):
        if line is None:
            yield None
            continue
        ends_paragraph = not line.strip() and len(passage) >= PASSAGE_CHARACTERS // 2
        if passage and (ends_paragraph or len(passage) + len(line) > PASSAGE_CHARACTERS):
            yield from _passage(passage)
            passage = ""
        passage += line
        while len(passage) > PASSAGE_CHARACTERS:
            at = passage.rfind(" ", 1, PASSAGE_CHARACTERS) + 1 or PASSAGE_CHARACTERS
            yield from _passage(passage[:at])
            passage = passage[at:]
    yield from _passage(passage)


def _passage(text: str) -> Iterator[Example]:
    if text := text.strip():
        yield Example(None, text)
