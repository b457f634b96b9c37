import json
import sys
from pathlib import Path

import pytest

from hub.demo import texts


def test_six_devices_hold_six_different_texts_within_the_cap(tmp_path: Path) -> None:
    devices = texts.write_device_texts(tmp_path, cap_bytes=20_000)

    assert len(devices) == 6
    assert len({package for device in devices for package in device.packages}) == sum(
        len(device.packages) for device in devices
    )
    for device in devices:
        records = [json.loads(line) for line in device.path.read_text("utf-8").splitlines()]
        passages = [record["text"] for record in records]
        assert sum(device.passages.values()) == len(passages)
        assert 18_000 < device.bytes <= 20_000
        assert device.bytes == sum(len(text.encode()) for text in passages)
        assert all(text.strip() and len(text) <= 1000 for text in passages)


def test_the_default_cap_leaves_every_device_enough_text(tmp_path: Path) -> None:
    sizes = [device.bytes for device in texts.write_device_texts(tmp_path)]

    assert all(100_000 < size <= 150_000 for size in sizes)


def test_the_same_text_at_every_call(tmp_path: Path) -> None:
    first = texts.write_device_texts(tmp_path / "a", cap_bytes=30_000)
    second = texts.write_device_texts(tmp_path / "b", cap_bytes=30_000)

    assert [t.path.read_bytes() for t in first] == [t.path.read_bytes() for t in second]


def test_every_package_of_a_device_is_read_though_the_cap_is_small(tmp_path: Path) -> None:
    device = texts.write_text(tmp_path, ["http", "urllib", "json"], cap_bytes=30_000)

    held = device.path.read_text("utf-8")
    for package in ("http", "urllib", "json"):
        own = [
            passage
            for source in texts.sources(package)
            for passage in texts.cut(source.read_text("utf-8"), 1000)
        ]
        assert any(json.dumps(passage, ensure_ascii=False)[1:-1] in held for passage in own)


def test_packages_belong_to_the_standard_library() -> None:
    names = {package for packages in texts.PACKAGES for package in packages}

    assert names <= set(sys.stdlib_module_names)


def test_a_passage_ends_at_a_line_end_and_nothing_is_lost() -> None:
    text = "aaaa\nbbbb\ncc\ndddddddddddd\ne\n"

    passages = list(texts.cut(text, 10))

    assert passages == ["aaaa\nbbbb\n", "cc\n", "dddddddddd", "dd\ne\n"]
    assert "".join(passages) == text


def test_blank_text_gives_no_passage() -> None:
    assert list(texts.cut("\n \n", 10)) == []


def test_passages_under_a_cap_are_taken_evenly() -> None:
    # 8 passages of 2 bytes, 8 bytes allowed: every second one.
    passages = [texts.Passage("p", f"a{number}") for number in range(8)]

    assert texts.spread(passages, 8) == passages[::2]
    assert texts.spread(passages, 100) == passages


def test_a_package_without_sources_is_named() -> None:
    with pytest.raises(texts.TextError, match="no_such_package"):
        texts.sources("no_such_package")
