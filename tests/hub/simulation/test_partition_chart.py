"""The picture of a split: a disc for each count, its area in proportion."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from hub.simulation.partition_chart import partition_chart

COUNTS = np.array([[4, 0], [1, 16]])


def discs(picture: str) -> list[tuple[float, float, float]]:
    pattern = r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"'
    return [(float(x), float(y), float(r)) for x, y, r in re.findall(pattern, picture)]


def test_a_discs_area_is_the_count_and_none_has_no_disc() -> None:
    found = discs(partition_chart(COUNTS, ["one", "two"], ["a", "b"]))
    # 4, 1 and 16: radii as 2, 1 and 4; the largest fills its row's 24 units.
    assert [r for _, _, r in found] == [6.0, 3.0, 12.0]
    (first, small, large) = found
    assert first[0] < small[0] == large[0]  # the second device stands to the right
    assert first[1] == small[1] < large[1]  # the second label below


def test_it_is_a_document_that_reads_well_aloud() -> None:
    picture = ElementTree.fromstring(partition_chart(COUNTS, ["<one>", "two"], ["a", "b&c"]))  # noqa: S314 (our own)
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert picture.attrib["aria-label"] == (
        "Examples by device and label: <one> 4, 100 % a; two 17, 94 % b&c."
    )
    titles = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["<one>, a: 4", "two, a: 1", "two, b&c: 16"]


def test_many_devices_and_long_names_stay_within_the_picture() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 50, (100, 20))
    picture = partition_chart(counts, [f"device-{n}" for n in range(100)], ["x" * 40] * 20)
    root = ElementTree.fromstring(picture)  # noqa: S314 (our own)
    width, height = (float(n) for n in root.attrib["viewBox"].split()[2:])
    for x, y, r in discs(picture):
        assert x - r >= 0
        assert x + r <= width
        assert y + r <= height
    texts = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {len(text) for text in texts if text.startswith("xx")} == {18}


def test_devices_without_an_example_are_told() -> None:
    picture = partition_chart(np.array([[0, 0], [1, 0]]), ["one", "two"], ["a", "b"])
    assert "one 0; two 1, 100 % a." in picture


def test_nothing_is_said_to_be_nothing() -> None:
    assert "Nothing to draw" in partition_chart(np.zeros((0, 0), dtype=np.int64), [], [])


def test_names_that_are_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="counts are 2 x 2; there are 1 devices and 2 labels"):
        partition_chart(COUNTS, ["one"], ["a", "b"])
