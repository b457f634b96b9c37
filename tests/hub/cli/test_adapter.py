from pathlib import Path

import pytest

from tests.hub.api.served import JOB, MemoryHub
from tests.hub.cli.conftest import Run


@pytest.fixture
def published(hub: MemoryHub) -> MemoryHub:
    hub.submit_job(JOB)
    hub.show_job("notes")  # ends a round
    (hub.folder / "adapter" / "prompt").mkdir(parents=True)
    (hub.folder / "adapter" / "adapter_config.json").write_text('{"r": 8}')
    (hub.folder / "adapter" / "prompt" / "adapter_config.json").write_text("{}")
    return hub


def test_list_shows_published_adapters_alone(run: Run, hub: MemoryHub) -> None:
    hub.submit_job(JOB)
    assert run("adapter", "list", "--json").document == []
    hub.show_job("notes")
    assert run("adapter", "list", "--json").document == [
        {"job": "notes", "round": 1, "base": "tiny", "heldout_loss": 2.25}
    ]
    assert "2.2500" in run("adapter", "list").out


def test_export_writes_the_peft_folder(run: Run, published: MemoryHub, tmp_path: Path) -> None:
    out = tmp_path / "new" / "adapter"
    document = run("adapter", "export", "notes", "--out", str(out), "--json").document
    assert document["files"] == ["adapter_config.json", "prompt/adapter_config.json"]
    assert (out / "adapter_config.json").read_text() == '{"r": 8}'
    assert (out / "prompt" / "adapter_config.json").read_text() == "{}"
    assert [path.name for path in out.parent.iterdir()] == ["adapter"]


def test_export_overwrites_nothing(run: Run, published: MemoryHub, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    ended = run("adapter", "export", "notes", "--out", str(tmp_path / "mine"))
    assert ended.code == 2
    assert "it exists" in ended.err
    assert list((tmp_path / "mine").iterdir()) == []


def test_an_export_that_fails_leaves_nothing_behind(
    run: Run, hub: MemoryHub, tmp_path: Path
) -> None:
    hub.submit_job(JOB)
    folder = tmp_path / "exports"
    ended = run("adapter", "export", "notes", "--out", str(folder / "adapter"))
    assert ended.code == 1
    assert "published no adapter" in ended.err
    assert list(folder.iterdir()) == []


def test_a_whole_model_is_no_peft_folder(run: Run, hub: MemoryHub, tmp_path: Path) -> None:
    hub.submit_job(JOB + "method: full\n")
    hub.show_job("notes")
    (hub.folder / "adapter").mkdir(parents=True)
    (hub.folder / "adapter" / "config.json").write_text("{}")
    words = ("adapter", "export", "notes", "--out")
    refused = run(*words, str(tmp_path / "one"), "--format", "peft")
    assert refused.code == 2
    assert "--format is peft; job notes has trained a model." in refused.err
    assert run(*words, str(tmp_path / "two"), "--json").document["format"] == "model"
