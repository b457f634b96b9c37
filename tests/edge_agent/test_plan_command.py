"""``lorikeet-agent plan`` as a user types it: its table, its document, its errors.

The device was measured before, or no worker could start on it, so that none is measured here.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge_agent.calibration import Calibration, Measured, Speed, present_key, save_calibration
from edge_agent.cli import app
from edge_agent.errors import UsageError
from tests.system.agent_process import SCRIPT

MB = 1_000_000
TINYLLAMA = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632,
    "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
    "vocab_size": 32_000, "dtype": "bfloat16",
}  # fmt: skip
# Inputs and outputs of a block's matrices: queries and what is gathered, keys and values, the MLP.
SIDES = 2 * (2048 + 2048) + 2 * (2048 + 256) + 3 * (2048 + 5632)
MEASURED = Measured(
    lean_bytes=200 * MB,
    full_bytes=330 * MB,
    wide=True,
    kernel_bytes={"bf16": 36 * MB, "f32": 28 * MB},
    speeds={
        "bf16": Speed(flops_per_s=4e11, made_bytes_per_s=5e8),
        "f32": Speed(flops_per_s=1e11, made_bytes_per_s=1e9),
    },
)
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the state folder of a device that was measured, with one thread."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))
    measured = Calibration(key=present_key(1), measured=MEASURED)
    save_calibration(tmp_path / "state", 1, measured)
    return tmp_path / "state"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps(TINYLLAMA))
    return tmp_path / "base"


@pytest.fixture
def command(model: Path, state: Path) -> Command:
    """Return a function that types the command, with one thread."""

    def typed(*words: str, model: Path = model) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), "plan", "--model", str(model), "--state", str(state),
             "--threads", "1", *words],
            capture_output=True, text=True, timeout=60, check=False,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    return typed


@pytest.fixture
def plan(model: Path, state: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that gets the document, without a process of its own."""

    def call(*words: str) -> dict[str, Any]:
        given = ["--model", str(model), "--state", str(state), "--threads", "1", "--json"]
        done = CliRunner().invoke(app, ["plan", *given, *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return call


def rows_of(table: str) -> list[list[str]]:
    """Return the words of each of the table's lines that begins with a role."""
    rows = [line.split() for line in table.splitlines()]
    return [row for row in rows if row and row[0] in ("lora", "prompt", "infer")]


# As a process


def test_the_table_shows_every_rung_and_the_one_that_is_taken(command: Command) -> None:
    done = command("--memory", "700MB")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("limit 700 MB (--memory)")
    assert max(len(line) for line in done.stdout.splitlines()) <= 120
    rows = rows_of(done.stdout)
    first = {row[1]: row for row in reversed(rows)}
    assert list(dict.fromkeys(row[1] for row in rows)) == [
        "resident", "checkpointed", "streamed", "core", "prompt", "infer",
    ]  # fmt: skip
    # The base alone, two bytes for each of 1.1 billion numbers, is too much for the first two.
    assert first["resident"][-1] == first["checkpointed"][-1] == "short"
    assert [row[-1] for row in rows if row[1] == "infer"] == ["yes"]
    # 1.25 bits for each number of the factors: 1.97 MB with the rank of 16 that is the default.
    assert f"{1.25 / 8 * 16 * 22 * SIDES / MB:.3g}" == "1.97"
    assert first["streamed"][2:5] == ["16", "4", "256"]
    assert "1.97 MB 1.97 MB" in " ".join(first["streamed"])
    assert "takes streamed: " in done.stdout


def test_the_document_has_the_limit_the_line_that_is_taken_and_all_of_them(
    command: Command,
) -> None:
    done = command("--memory", "700MB", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["limit_bytes"], found["limit_reason"]) == (700 * MB, "--memory")
    names = {"role", "rung", "rank", "predicted_peak_bytes", "fits", "missing_bytes"}
    for line in found["rungs"]:
        assert names <= set(line)
        assert line["needs_bytes"] == int(line["predicted_peak_bytes"] * 1.03)
        assert line["fits"] is (line["needs_bytes"] <= 700 * MB)
        assert line["missing_bytes"] == max(0, line["needs_bytes"] - 700 * MB)
    assert found["chosen"] == next(line for line in found["rungs"] if line["fits"])


def test_a_model_that_is_not_there_is_a_mistake_of_the_user(
    command: Command, tmp_path: Path
) -> None:
    done = command(model=tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"lorikeet-agent: --model is {tmp_path / 'nowhere'}: ")


def test_a_limit_that_is_none_is_a_mistake_of_the_user(command: Command) -> None:
    done = command("--memory", "lots")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("lorikeet-agent: --memory: 'lots' is not a size; write for example")


def test_a_device_that_can_t_be_measured_is_a_failure(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spoilt").mkdir()
    (tmp_path / "spoilt" / "torch.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "spoilt"))
    done = command("--memory", "700MB", "--recalibrate")
    assert (done.returncode, done.stdout) == (1, "")
    told, line = done.stderr.splitlines()
    assert told == "measuring this device; it takes some seconds, once"
    assert line.startswith("lorikeet-agent: the worker could not measure itself: ImportError")


# Within this process


def test_if_nothing_fits_it_says_what_is_missing(plan: Callable[..., dict[str, Any]]) -> None:
    found = plan("--memory", "100MB")
    assert not any(line["fits"] for line in found["rungs"])
    least = min(line["missing_bytes"] for line in found["rungs"])
    assert (found["chosen"]["role"], found["chosen"]["missing_bytes"]) == ("none", least)


@pytest.mark.parametrize(
    ("method", "roles", "rungs"),
    [
        ("lora", ["lora", "infer"], {"resident", "checkpointed", "streamed", "infer"}),
        ("prompt", ["prompt", "infer"], {"prompt", "infer"}),
        (
            "lora+prompt",
            ["lora", "prompt", "infer"],
            {"resident", "checkpointed", "streamed", "prompt", "infer"},
        ),
    ],
)
def test_a_hub_s_method_has_its_own_rungs(
    plan: Callable[..., dict[str, Any]], method: str, roles: list[str], rungs: set[str]
) -> None:
    lines = plan("--method", method)["rungs"]
    assert list(dict.fromkeys(line["role"] for line in lines)) == roles
    assert {line["rung"] for line in lines} == rungs


def test_the_options_set_the_job_s_sizes_and_floors(plan: Callable[..., dict[str, Any]]) -> None:
    words = "--rank 8 --min-rank 4 --batch 2 --min-batch 2 --seq-len 64 --min-seq-len 64"
    lines = plan(*words.split(), "--prompt-tokens", "4")["rungs"]
    sizes = [
        (line["rank"], line["batch"], line["seq_len"])
        for line in lines
        if line["rung"] == "streamed"
    ]
    assert sizes == [(8, 2, 64), (4, 2, 64)]
    prompt = next(line for line in lines if line["rung"] == "prompt")
    assert prompt["bytes_up"] == 4 * 2048 * 1.25 / 8


def test_what_was_measured_of_the_device_is_planned_with(
    plan: Callable[..., dict[str, Any]], state: Path
) -> None:
    before = plan("--memory", "700MB")["rungs"]
    heavier = Measured(
        lean_bytes=MEASURED.lean_bytes + 100 * MB,
        full_bytes=430 * MB,
        wide=True,
        kernel_bytes=MEASURED.kernel_bytes,
        speeds={
            kind: Speed(
                flops_per_s=speed.flops_per_s / 2, made_bytes_per_s=speed.made_bytes_per_s / 2
            )
            for kind, speed in MEASURED.speeds.items()
        },
    )
    save_calibration(state, 1, Calibration(key=present_key(1), measured=heavier))
    after = plan("--memory", "700MB")["rungs"]
    for one, other in zip(before, after, strict=True):
        assert other["predicted_peak_bytes"] == one["predicted_peak_bytes"] + 100 * MB
        assert other["step_s"] == pytest.approx(2 * one["step_s"])


def table(model: Path, state: Path, *words: str) -> list[list[str]]:
    given = ["plan", "--model", str(model), "--state", str(state), "--threads", "1", *words]
    done = CliRunner().invoke(app, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return rows_of(done.stdout)


def test_the_table_has_each_rung_s_first_line_and_its_first_that_fits_or_all(
    plan: Callable[..., dict[str, Any]], model: Path, state: Path
) -> None:
    lines = plan("--memory", "500MB")["rungs"]
    every = table(model, state, "--memory", "500MB", "--all")
    assert [row[1] for row in every] == [line["rung"] for line in lines]
    assert [row[-1] == "yes" for row in every] == [line["fits"] for line in lines]
    short = table(model, state, "--memory", "500MB")
    streamed = [row for row in every if row[1] == "streamed"]
    fitting = next(row for row in streamed if row[-1] == "yes")
    assert fitting is not streamed[0]
    assert [row for row in short if row[1] == "streamed"] == [streamed[0], fitting]
    # Where nothing of a rung fits, its last line shows how near it comes.
    none = table(model, state, "--memory", "100MB")
    least = [row for row in table(model, state, "--memory", "100MB", "--all") if row[1] == "prompt"]
    assert [row for row in none if row[1] == "prompt"] == [least[0], least[-1]]


def test_a_device_on_which_no_worker_starts_is_planned_for_without_seconds(
    plan: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    found = plan("--memory", "100MB", "--threads", "3")
    assert {line["step_s"] for line in found["rungs"]} == {None}
    assert not (tmp_path / "states").exists()


def test_without_a_state_folder_the_user_s_own_is_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "ward 7")
    known = Calibration(key=present_key(1), measured=MEASURED)
    save_calibration(tmp_path / "states" / "lorikeet" / "ward-7", 1, known)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    words = ["plan", "--model", str(model), "--memory", "100MB", "--threads", "1", "--json"]
    found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert all(line["step_s"] > 0 for line in found["rungs"])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--method", "telepathy"], "--method is 'telepathy'; allowed are local, lora, prompt"),
        (["--rank", "4", "--min-rank", "8"], "--min-rank is 8; at most --rank (4) is allowed"),
        (["--seq-len", "16"], "--min-seq-len is 32; at most --seq-len (16) is allowed"),
    ],
)
def test_what_makes_no_sense_is_a_mistake_of_the_user(
    plan: Callable[..., dict[str, Any]], words: list[str], reason: str
) -> None:
    with pytest.raises(UsageError) as told:
        plan(*words)
    assert reason in str(told.value)
