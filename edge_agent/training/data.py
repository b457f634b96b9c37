"""Private text, streamed from files; it stays in this process.

`.jsonl` holds one object a line, with ``prompt`` and ``response`` or with ``text``; `.txt` is cut
into passages. What `edge_agent.training.cleaning` finds fault with is left out. A tenth of the
examples, chosen by content alone, is held out from training: the same text falls on the same side
on every device, in every round, wherever it stands and however it is spaced and capitalised.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from edge_agent.errors import DataError
from edge_agent.training.cleaning import USUAL, Cleaner, Fault, digest_of
from edge_agent.training.duplicates import normalised
from edge_agent.training.redaction import Redactor
from wire.messages import DataSummary
from wire.work import Cleaning

Part = Literal["train", "held_out", "all"]

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


class _Tally:
    """What there was, and what was left out."""

    def __init__(self) -> None:
        self.examples = self.held_out = 0
        self.faults: Counter[Fault] = Counter()
        self.redactor = Redactor()

    def summary(self) -> DataSummary:
        return DataSummary(
            examples=self.examples,
            held_out=self.held_out,
            skipped=self.faults["skipped"],
            duplicates=self.faults["duplicates"],
            near_duplicates=self.faults["near_duplicates"],
            too_short=self.faults["too_short"],
            garbled=self.faults["garbled"],
            redacted=self.redactor.count,
        )


def _as_it_is(text: str) -> str:
    return text


def read(
    paths: Sequence[str | Path], change: Callable[[str], str] = _as_it_is
) -> Iterator[Example | None]:
    """Yield every example, and None for each broken line, in a fixed order.

    Args:
        paths: files, or folders that are searched for `.jsonl` and `.txt`.
        change: what is done to prompts, responses, texts, and to each line of a `.txt` before it is
            cut into passages.

    Raises:
        DataError: a path is absent, unreadable, or neither.
    """
    for number, path in enumerate(paths, start=1):
        for file in _files(Path(path), number):
            try:
                with file.open("rb") as opened:
                    how = _jsonl if file.suffix == ".jsonl" else _passages
                    yield from how(opened, change)
            except OSError as error:
                raise DataError(
                    f"data path {number} can't be read ({type(error).__name__}). "
                    "Check the file's permissions."
                ) from None


def is_held_out(example: Example) -> bool:
    """Return whether an example is in the tenth that none trains on."""
    return _in_tenth(digest_of(example.prompt, normalised(example.text)))


def count(paths: Sequence[str | Path], cleaning: Cleaning = USUAL) -> DataSummary:
    """Count examples (held-out ones among them) and what is left out, in bounded memory.

    Raises:
        DataError: a path can't be used, or no example is left.
    """
    tally = _Tally()
    for _ in _cleaned(paths, cleaning, tally):
        pass
    if not tally.examples:
        raise DataError(_nothing(len(paths), tally.faults))
    return tally.summary()


def draw(
    paths: Sequence[str | Path],
    part: Part,
    characters: int,
    seed: int,
    cleaning: Cleaning = USUAL,
) -> list[Example]:
    """Return a random choice of one part, in random order, both fixed by the seed.

    Memory is bounded by ``characters`` and the longest line, however large the files are: each
    example gets a pseudo-random key from its content, and those of the smallest keys are kept.

    Args:
        paths: as for `read`.
        part: which side of the split, or both.
        characters: how much text suffices; the last example may go beyond it.
        seed: another one gives another choice.
        cleaning: what is left out.

    Returns:
        At least one example for ``train`` and ``all``; for ``held_out`` maybe none.

    Raises:
        DataError: a path can't be used, or there is nothing to train on.
    """
    kept: list[tuple[int, int, Example]] = []  # heap, the largest key first
    size, tally = 0, _Tally()
    for order, (example, digest) in enumerate(_cleaned(paths, cleaning, tally)):
        if part != "all" and _in_tenth(digest) != (part == "held_out"):
            continue
        key = hashlib.sha256(seed.to_bytes(8, "big", signed=True) + digest).digest()
        heapq.heappush(kept, (-int.from_bytes(key, "big"), order, example))
        size += _size(example)
        while len(kept) > 1 and size - _size(kept[0][2]) >= characters:
            size -= _size(heapq.heappop(kept)[2])
    if not tally.examples:
        raise DataError(_nothing(len(paths), tally.faults))
    if part == "train" and not kept:
        raise DataError(
            f"all {tally.examples} examples are in the held-out tenth; nothing is left to train "
            "on. Add more text."
        )
    return [example for _, _, example in sorted(kept, key=lambda item: (-item[0], item[1]))]


def _cleaned(
    paths: Sequence[str | Path], cleaning: Cleaning, tally: _Tally
) -> Iterator[tuple[Example, bytes]]:
    """Yield what is left, each with its digest, and count everything."""
    cleaner = Cleaner(cleaning)
    for example in read(paths, tally.redactor if cleaning.redact else _as_it_is):
        if example is None:
            tally.faults["skipped"] += 1
            continue
        digest, fault = cleaner.look(example.prompt, example.text)
        if fault is not None:
            tally.faults[fault] += 1
            continue
        tally.examples += 1
        tally.held_out += _in_tenth(digest)
        yield example, digest


def _in_tenth(digest: bytes) -> bool:
    return int.from_bytes(digest[:8], "big") % _ONE_IN == 0


def _size(example: Example) -> int:
    return len(example.prompt or "") + len(example.text)


def _nothing(paths: int, faults: Counter[Fault]) -> str:
    left_out = faults.total() - faults["skipped"]
    others = f", {left_out} garbled or empty texts left out" if left_out else ""
    return (
        f"no usable example in {paths} data paths; {faults['skipped']} broken lines were "
        f"skipped{others}. "
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


def _jsonl(file: BinaryIO, change: Callable[[str], str]) -> Iterator[Example | None]:
    for line in _lines(file):
        if line is None or line.strip():
            yield None if line is None else _example(line, change)


def _example(line: str, change: Callable[[str], str]) -> Example | None:
    try:
        parsed = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, RecursionError):
        return None
    if parsed.prompt and parsed.response:
        return Example(change(parsed.prompt), change(parsed.response))
    if parsed.text and parsed.text.strip():
        return Example(None, change(parsed.text))
    return None


def _passages(file: BinaryIO, change: Callable[[str], str]) -> Iterator[Example | None]:
    """Cut at a paragraph's end where the passage is half full, else at a line's or a word's."""
    passage = ""
    for line in _lines(file):
        if line is None:
            yield None
            continue
        line = change(line)  # noqa: PLW2901 (from here on there is no other)
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
