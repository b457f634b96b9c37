import json
from collections import Counter
from pathlib import Path

import pytest

from hub.demo.splits import SPLITS, Split, write_split_texts
from hub.demo.texts import PACKAGES, DeviceText

CAP = 100_000


def split(folder: Path, kind: Split, alpha: float = 0.3) -> list[DeviceText]:
    return write_split_texts(folder / kind, kind, alpha, seed=1, cap_bytes=CAP)


def lines(devices: list[DeviceText]) -> Counter[str]:
    return Counter(line for one in devices for line in one.path.read_text("utf-8").splitlines())


@pytest.mark.parametrize("kind", SPLITS)
def test_each_passage_is_on_one_device(tmp_path: Path, kind: Split) -> None:
    devices = split(tmp_path, kind)
    assert len(devices) == 6
    assert lines(devices) == lines(split(tmp_path, "holder"))
    for one in devices:
        held = one.path.read_text("utf-8").splitlines()
        assert sum(one.passages.values()) == len(held) > 0
        assert one.bytes == sum(len(json.loads(line)["text"].encode()) for line in held)


def test_a_small_alpha_gives_a_device_few_packages(tmp_path: Path) -> None:
    devices = split(tmp_path, "label", alpha=0.01)
    most = [max(one.passages.values()) / sum(one.passages.values()) for one in devices]
    alike = split(tmp_path / "alike", "label", alpha=1000)
    least = [max(one.passages.values()) / sum(one.passages.values()) for one in alike]
    assert min(most[:-1]) > max(least)
    packages = {package for theme in PACKAGES for package in theme}
    assert {package for one in alike for package in one.packages} == packages


def test_amounts_differ_where_they_are_to(tmp_path: Path) -> None:
    sizes = [sum(one.passages.values()) for one in split(tmp_path, "quantity")]
    assert max(sizes) > 3 * min(sizes)
    even = [sum(one.passages.values()) for one in split(tmp_path, "length")]
    assert max(even) - min(even) <= 1
