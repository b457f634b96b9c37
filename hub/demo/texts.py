"""The demo's private texts: each device holds the sources of other standard-library packages.

The split is real and not identically distributed: code about e-mail reads unlike code about
XML. Only packages that Python 3.11, 3.12 and 3.13 share are used, and none that Linux
distributions move into a package of their own (as they do with idlelib and venv).
"""

import importlib.util
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from hub.errors import HubError

#: What each device reads, in the order of the devices' numbers.
PACKAGES: tuple[tuple[str, ...], ...] = (
    ("asyncio",),
    ("email",),
    ("unittest",),
    ("xml", "html"),
    ("http", "urllib", "json"),
    ("logging", "sqlite3", "concurrent"),
)
PASSAGE_CHARACTERS = 1000
CAP_BYTES = 150_000


class Passage(NamedTuple):
    """A piece of a package's source."""

    package: str
    text: str


class DeviceText(msgspec.Struct, frozen=True, kw_only=True):
    """One device's private text: a ``.jsonl`` of records with the key ``text``."""

    name: str
    path: Path
    bytes: int  # of the text itself, without JSON's marks
    passages: dict[str, int]  # how many are from which package

    @property
    def packages(self) -> list[str]:
        """The packages that any of it is from."""
        return list(self.passages)


class TextError(HubError):
    """This Python lacks the sources that the demo reads."""


def write_device_texts(folder: Path, cap_bytes: int = CAP_BYTES) -> list[DeviceText]:
    """Write the private text of each of the six devices; the same text at every call.

    Args:
        folder: made if it is not there; one file a device is written.
        cap_bytes: at most so much text a device, taken evenly from all its files.

    Raises:
        TextError: a package has no sources in this installation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [write_text(folder, packages, cap_bytes) for packages in PACKAGES]


def write_text(folder: Path, packages: Sequence[str], cap_bytes: int) -> DeviceText:
    """Write the passages of some packages as ``{folder}/{packages}.jsonl``."""
    return write_passages(folder, "-".join(packages), read_passages(packages, cap_bytes))


def read_passages(packages: Sequence[str], cap_bytes: int) -> list[Passage]:
    """Return passages of some packages, at most so much text, taken evenly from all their files.

    Raises:
        TextError: a package has no sources in this installation.
    """
    passages = [
        Passage(package, text)
        for package in packages
        for source in sources(package)
        for text in cut(source.read_text(encoding="utf-8"), PASSAGE_CHARACTERS)
    ]
    return spread(passages, cap_bytes)


def write_passages(folder: Path, name: str, passages: Sequence[Passage]) -> DeviceText:
    """Write a device's text as ``{folder}/{name}.jsonl``."""
    path = folder / f"{name}.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode({"text": one.text}) + b"\n" for one in passages))
    return DeviceText(
        name=name,
        path=path,
        bytes=sum(len(one.text.encode()) for one in passages),
        passages=dict(Counter(one.package for one in passages)),
    )


def sources(package: str) -> list[Path]:
    """Return the Python files of an installed package, by path, tests left out."""
    spec = importlib.util.find_spec(package)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    found = sorted(
        path
        for folder in folders
        for path in folder.rglob("*.py")
        if not {"test", "tests"} & set(path.relative_to(folder).parts)
    )
    if not found:
        raise TextError(
            f"the standard-library package {package!r} has no .py files in this Python; "
            "use a full CPython installation, or give the demo's devices another text."
        )
    return found


def cut(text: str, characters: int) -> Iterator[str]:
    """Cut a text at line ends into passages of nearly the given length; none is blank.

    A line that is longer than a passage is cut within.
    """
    passage = ""
    for line in text.splitlines(keepends=True):
        if passage.strip() and len(passage) + len(line) > characters:
            yield passage
            passage = ""
        passage += line
        while len(passage) > characters:
            yield passage[:characters]
            passage = passage[characters:]
    if passage.strip():
        yield passage


def spread(passages: Sequence[Passage], cap_bytes: int) -> list[Passage]:
    """Return as many passages as the cap allows, evenly from the whole sequence, in order."""
    total = sum(len(passage.text.encode()) for passage in passages)
    kept: list[Passage] = []
    seen_bytes = kept_bytes = 0
    for passage in passages:
        size = len(passage.text.encode())
        # Keep up with the share of the text that was seen: no file is left out as a whole.
        if kept_bytes + size <= cap_bytes and kept_bytes * total <= cap_bytes * seen_bytes:
            kept.append(passage)
            kept_bytes += size
        seen_bytes += size
    return kept
