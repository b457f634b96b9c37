"""The demo's private texts: each device holds the sources of other standard-library packages.

The split is real and not identically distributed: code about e-mail reads unlike code about
XML. Only packages that Python 3.11, 3.12 and 3.13 share are used, and none that Linux
distributions move into a package of their own (as they do with idlelib and venv).
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

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


class DeviceText(msgspec.Struct, frozen=True, kw_only=True):
    """One device's private text: a ``.jsonl`` of records with the key ``text``."""

    name: str  # of the device's theme: the packages joined by "-"
    packages: list[str]
    path: Path
    bytes: int  # of the text itself, without JSON's marks
    passages: int


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
    name = "-".join(packages)
    passages = [
        passage
        for package in packages
        for source in sources(package)
        for passage in cut(source.read_text(encoding="utf-8"), PASSAGE_CHARACTERS)
    ]
    kept = spread(passages, cap_bytes)
    path = folder / f"{name}.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode({"text": text}) + b"\n" for text in kept))
    return DeviceText(
        name=name,
        packages=list(packages),
        path=path,
        bytes=sum(len(text.encode()) for text in kept),
        passages=len(kept),
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


def spread(passages: Sequence[str], cap_bytes: int) -> list[str]:
    """Return as many passages as the cap allows, evenly from the whole sequence, in order."""
    total = sum(len(passage.encode()) for passage in passages)
    kept: list[str] = []
    seen_bytes = kept_bytes = 0
    for passage in passages:
        size = len(passage.encode())
        # Keep up with the share of the text that was seen: no file is left out as a whole.
        if kept_bytes + size <= cap_bytes and kept_bytes * total <= cap_bytes * seen_bytes:
            kept.append(passage)
            kept_bytes += size
        seen_bytes += size
    return kept
