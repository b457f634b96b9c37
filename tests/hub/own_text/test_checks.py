from pathlib import Path

import pytest

from hub.errors import ConfigError
from hub.job_parts import HubPart
from hub.own_text import checks
from hub.own_text.checks import SUFFIXES, check_own_text


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "public.jsonl"
    path.write_text("{}")
    return path


def test_the_suffixes_are_those_that_devices_read() -> None:
    from edge_agent.training import data

    assert SUFFIXES == data.SUFFIXES


def test_paths_become_absolute_by_key(
    text: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_own_text(HubPart()) == {}
    assert check_own_text(HubPart(validation=text.name)) == {"validation": str(text)}
    both = HubPart(public_data=".", validation=str(text))
    assert check_own_text(both) == {"public_data": str(tmp_path), "validation": str(text)}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none.txt", "hub.public_data is .*none.txt; there is no such path on the hub"),
        ("other.csv", "hub.public_data is .*other.csv.*; allowed is a .jsonl or .txt file"),
        ("empty", "hub.public_data is .*empty.*; allowed is .* or a folder with some"),
    ],
)
def test_a_path_without_text_is_refused(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "other.csv").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=said):
        check_own_text(HubPart(public_data=str(tmp_path / path)))


def test_a_hub_without_torch_says_what_to_install(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None if name in ("torch", "peft") else 1)
    with pytest.raises(ConfigError, match=r"lacks torch\. Install lorikeet\[train\]"):
        check_own_text(HubPart(public_data=str(text)))
    with pytest.raises(ConfigError, match="lacks torch, peft"):
        check_own_text(HubPart(validation=str(text), rung="resident"))
