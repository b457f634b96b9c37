"""``lorikeet-agent probe``: one JSON document, or a table that fits the terminal."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec import inspect
from typer.testing import CliRunner

from edge_agent import probe_command
from edge_agent.cli import app
from edge_agent.probe.profile import Profile, profile
from edge_agent.probe_command import print_profile
from tests.edge_agent.probe.recorded import DEVICES, lay_out, recorded


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], Path]:
    """Return a function that lays out a device, or nothing at all."""

    def write(name: str | None) -> Path:
        root = lay_out(tmp_path / "device", recorded(name) if name else {})
        monkeypatch.setenv("PATH", str(root / "bin"))
        monkeypatch.setenv("LORIKEET_TEST_ASKED", str(tmp_path / "asked"))
        return root

    return write


def probe(*words: str) -> str:
    done = CliRunner().invoke(app, ["probe", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_document_is_one_and_says_what_bounds_the_memory(tmp_path: Path) -> None:
    found = json.loads(probe("--json", "--memory", "64MB", "--state", str(tmp_path / "new")))
    assert set(found) == {
        "machine", "memory", "pressure", "accelerator", "thermal", "throttling", "battery",
        "disk", "link", "runtimes", "data",
    }  # fmt: skip
    assert found["memory"]["limit_bytes"] == 64_000_000
    assert found["memory"]["limit_reason"] == "--memory"
    assert found["disk"]["folder"] == str(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_text_is_counted_where_it_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "my.jsonl").write_text(
        '{"text": "MARKER one"}\n{"text": "marker  ONE"}\n{"text": "b@c.org"}\n{"text": "--"}\n'
    )
    words = ["--state", str(tmp_path), "--data", str(tmp_path / "my.jsonl"), "--redact"]
    found = json.loads(probe("--json", *words))["data"]
    assert (found["examples"], found["duplicates"], found["too_short"]) == (2, 1, 1)
    assert found["redacted"] == 1
    told = probe(*words)
    assert "left out: 1 duplicates, 1 too short; 1 addresses and numbers" in " ".join(told.split())
    assert "MARKER" not in told


def test_what_can_not_be_read_stands_there_as_null_with_its_reason() -> None:
    link = json.loads(probe("--json"))["link"]
    assert link["metered"] is None
    assert link["missing"]["metered"]


def test_where_nothing_can_be_read_it_still_says_so(
    device: Callable[[str | None], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = device(None)
    monkeypatch.setattr(
        probe_command, "profile", lambda state, **more: profile(state, root, **more)
    )
    memory = json.loads(probe("--json"))["memory"]
    assert memory["limit_bytes"] is None
    assert "/proc/meminfo is not there" in memory["missing"]["limit_bytes"]
    assert "/proc/meminfo is not there" in probe()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", [None, *DEVICES])
def test_the_table_fits_the_terminal(
    device: Callable[[str | None], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str | None,
    width: int,
) -> None:
    print_profile(profile(tmp_path, device(name)), width)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= width
    for part in ("machine", "memory", "accelerator", "temperature", "battery", "disk", "link"):
        assert sum(line.startswith(f" {part} ") for line in lines) == 1


def test_the_table_tells_what_a_person_looks_for(
    device: Callable[[str | None], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_profile(profile(tmp_path, device("raspberry_pi")), 200)
    told = " ".join(capsys.readouterr().out.split())
    assert "model Raspberry Pi 4 Model B Rev 1.4" in told
    assert "limit 3457 MB (memory that is available)" in told  # 3,355,443 + 20,480 kB
    assert "nearest to limit 82.8 °C, limit 80 °C (cpu-thermal)" in told
    assert "throttled yes by frequency capped, throttled, soft temperature limit" in told
    assert "default route wlan0 (wifi)" in told


def parts_of(kind: inspect.Type) -> Iterator[str]:
    """Yield the names of all fields of a struct and of what it is made of."""
    match kind:
        case inspect.StructType():
            for field in kind.fields:
                yield field.encode_name
                yield from parts_of(field.type)
        case inspect.UnionType():
            for one in kind.types:
                yield from parts_of(one)
        case inspect.ListType():
            yield from parts_of(kind.item_type)
        case _:
            pass


def test_every_field_of_the_document_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    section = text.split("#### What the probe's document holds")[1].split("\n### ")[0]
    lines = {line.split("`")[1]: line for line in section.splitlines() if line.startswith("| `")}
    profile_type = inspect.type_info(Profile)
    assert isinstance(profile_type, inspect.StructType)
    assert set(lines) == {field.encode_name for field in profile_type.fields}
    for field in profile_type.fields:
        for name in set(parts_of(field.type)) - {"missing"}:
            assert f"`{name}`" in lines[field.encode_name], f"{field.encode_name}.{name}"


def test_a_size_that_is_none_is_refused_before_anything_is_read() -> None:
    done = CliRunner().invoke(app, ["probe", "--memory", "lots"])
    assert done.exit_code != 0
    assert "700MB" in str(done.exception)
