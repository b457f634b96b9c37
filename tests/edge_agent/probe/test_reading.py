"""What can't be read has a reason that a person understands."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.reading import Gaps, UnreadableError, listing, read, read_number, whole

Tree = Callable[[dict[str, str]], Path]


def test_text_comes_without_white_space_and_nuls(tree: Tree) -> None:
    assert read(tree({"a": " Raspberry Pi 4\0\n"}), "a") == "Raspberry Pi 4"


def test_at_most_a_mebibyte_is_read(tree: Tree) -> None:
    assert len(read(tree({"a": "x" * (1024 * 1024 + 1)}), "a")) == 1024 * 1024


def test_an_absent_file_is_named_as_on_the_device(tree: Tree) -> None:
    with pytest.raises(UnreadableError, match=r"^/proc/stat is not there$"):
        read(tree({}), "proc/stat")


def test_what_is_no_file_is_no_crash(tree: Tree) -> None:
    with pytest.raises(UnreadableError, match=r"^/a can't be read: is a directory$"):
        read(tree({"a/b": ""}), "a")
    with pytest.raises(UnreadableError, match=r"^/a/b/c is not there$"):
        read(tree({}), "a/b/c")
    with pytest.raises(UnreadableError, match="null"):
        read(tree({}), "a\0b")


def test_a_number_that_is_none_is_quoted(tree: Tree) -> None:
    with pytest.raises(UnreadableError, match=r"^/a holds 'max', which is no number$"):
        read_number(tree({"a": "max\n"}), "a")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("-274000", -274000), ("9" * 20, 10**20 - 1), ("9" * 21, None), ("", None),
     ("-", None), ("--1", None), ("1.5", None), ("0x10", None), ("max", None)],
)  # fmt: skip
def test_whole_numbers_are_short_and_decimal(text: str, value: int | None) -> None:
    assert whole(text) == value


def test_names_are_in_the_order_of_their_numbers(tree: Tree) -> None:
    root = tree({f"sys/zone{number}/temp": "" for number in (10, 2, 1)} | {"sys/fan0": ""})
    assert listing(root, "sys", "zone") == ["zone1", "zone2", "zone10"]


def test_a_gap_keeps_the_reason_under_the_fields_name(tree: Tree) -> None:
    root = tree({"a": "5"})
    gaps = Gaps()
    assert gaps.fill("there", lambda: read_number(root, "a")) == 5
    assert gaps.fill("gone", lambda: read_number(root, "b")) is None
    assert gaps.reasons == {"gone": "/b is not there"}
