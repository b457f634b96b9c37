"""``lorikeet-agent train`` as anybody would call it: its result, its errors, its ends."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import psutil
import pytest
import torch
import transformers
from typer.testing import CliRunner

from edge_agent.cli import app
from edge_agent.errors import UsageError
from edge_agent.training.bases import open_base
from edge_agent.training.drawn import held_out_rows
from tests.system.agent_process import ENVIRONMENT, SCRIPT

# PEFT 0.21 reads a property that transformers 5.23 renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning")

MARKER = "Zyxomancer-47"
SEQ_LEN = 64


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "private" / "my.jsonl"
    file.parent.mkdir()
    lines = [json.dumps({"text": f"{MARKER} saw {n} hills and {n * n} birds."}) for n in range(60)]
    file.write_text("\n".join([*lines, f'{{"text": "{MARKER}']))
    return file


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a state folder for all, so that the device is measured once."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def words(tmp_path: Path, state: Path, llama: Path, data: Path) -> list[str]:
    """Return the options of a short training."""
    return [
        "train", "--model", str(llama), "--data", str(data), "--out", str(tmp_path / "adapter"),
        "--state", str(state), "--seq-len", str(SEQ_LEN), "--rank", "4",
        "--steps", "3", "--lr", "0.01", "--threads", "1",
    ]  # fmt: skip


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return ENVIRONMENT | {"XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def train(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that trains to the end, or to the error."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), *words],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment,
        )

    return call


Train = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def training(words: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a training that is to be disturbed."""
    process = subprocess.Popen(
        [str(SCRIPT), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def await_line(process: subprocess.Popen[str], start: str) -> list[str]:
    """Read what it says up to a line that starts so."""
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(start):
            return said
    raise AssertionError("".join(said))


def mean_loss(adapter: Path, base: Path, data: Path) -> float:
    """Return the held-out loss as transformers and PEFT compute it."""
    rows = held_out_rows(open_base(base, "resident").encoder, [str(data)], SEQ_LEN)
    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(plain, adapter).eval()
    total = tokens = 0.0
    for row in rows:
        ids = torch.tensor([list(row.ids)])
        with torch.no_grad():
            mean = model(input_ids=ids, labels=torch.tensor([list(row.labels)])).loss
        total, tokens = total + float(mean) * row.targets, tokens + row.targets
    return total / tokens


@pytest.mark.slow
def test_the_result_is_one_document_and_peft_confirms_it(
    train: Train, words: list[str], tmp_path: Path, llama: Path, data: Path
) -> None:
    done = train(*words, "--json")
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert set(told) == {
        "role", "rung", "rank", "batch", "seq_len", "steps", "loss", "seconds_per_step",
        "tokens_per_second", "limit_bytes", "predicted_peak_bytes", "measured_peak_bytes",
        "worker_peak_bytes", "adapter", "held_out_before", "held_out_after", "out_of_memory",
        "data",
    }  # fmt: skip
    assert (told["role"], told["rank"], told["steps"], len(told["loss"])) == ("lora", 4, 3, 3)
    assert told["out_of_memory"] == []
    assert told["seconds_per_step"] > 0
    assert told["tokens_per_second"] > 0
    assert told["limit_bytes"] > told["measured_peak_bytes"] > told["worker_peak_bytes"] > 50e6
    assert told["adapter"] == str(tmp_path / "adapter")
    assert told["held_out_after"] < told["held_out_before"]
    found = mean_loss(tmp_path / "adapter", llama, data)
    assert found == pytest.approx(told["held_out_after"], rel=1e-4)
    # What is said on the way has the plan, the data and the course, and none of the text.
    assert f"takes {told['rung']}" in done.stderr
    assert "60 examples, " in done.stderr
    assert "1 broken lines are skipped" in done.stderr
    assert "step 3 of 3, loss" in done.stderr
    folder = Path(words[words.index("--state") + 1])
    logs = "".join(file.read_text() for file in folder.rglob("*.log"))
    assert MARKER not in done.stderr + done.stdout + logs


def test_a_person_is_told_the_result_in_lines(train: Train, words: list[str]) -> None:
    sgd = ["--optimizer", "sgd", "--momentum", "0.9", "--batch", "2", "--accumulate", "2"]
    done = train(*words, "--role", "prompt", "--prompt-tokens", "4", *sgd, "--schedule", "linear")
    assert done.returncode == 0, done.stderr
    for said in (
        "takes prompt",
        "(2 x 64 tokens, 1 at a time)",
        "held-out loss before: ",
        "3 steps, loss ",
        "peak memory ",
        "PEFT",
    ):
        assert said in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_a_killed_worker_ends_in_an_adapter_one_rung_lower(
    words: list[str], environment: dict[str, str]
) -> None:
    options = ["--steps", "100", "--rung", "resident", "--json"]
    with training([*words, *options], environment) as process:
        await_line(process, "step ")
        (worker,) = psutil.Process(process.pid).children()
        worker.kill()
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    told = json.loads(out)
    assert told["out_of_memory"] == ["resident"]
    assert told["rung"] == "checkpointed"
    assert len(told["loss"]) == 100
    assert "warning: rung resident ran out of memory: the kernel killed the worker" in said
    assert "one rung down: checkpointed" in said
    assert peft.PeftConfig.from_pretrained(told["adapter"]).r == 4


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_where_it_was(
    train: Train, words: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    options = ["--steps", "150", "--json"]
    with training([*words, *options], environment) as process:
        await_line(process, "step ")
        (worker,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert out == ""
    assert not psutil.pid_exists(worker.pid)
    state = tmp_path / "adapter" / "checkpoint.safetensors"
    assert f"{state} holds what was learnt" in said
    assert "--resume" in said
    refused = train(*words, *options)
    assert refused.returncode == 2
    assert "--resume goes on with what was stopped" in refused.stderr
    done = train(*words, *options, "--resume")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["loss"]) == 150
    assert "began anew" not in done.stderr
    assert sorted(file.name for file in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_a_training_that_has_not_begun_stops_at_once(
    words: list[str], environment: dict[str, str]
) -> None:
    with training([*words, "--json"], environment) as process:
        await_line(process, "takes ")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
    assert "stopped. Nothing was kept." in said


def test_data_with_broken_lines_only(train: Train, words: list[str], data: Path) -> None:
    data.write_text(f'{{"text": "{MARKER}')
    done = train(*words, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no usable example" in done.stderr
    assert MARKER not in done.stderr
    assert "Traceback" not in done.stderr


def test_memory_that_suffices_for_nothing(train: Train, words: list[str]) -> None:
    done = train(*words, "--memory", "60MB", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "bytes are missing for the least rung" in done.stderr


def test_a_rung_that_the_role_does_not_have(train: Train, words: list[str]) -> None:
    done = train(*words, "--rung", "prompt")
    assert done.returncode == 2
    assert "--rung is 'prompt'" in done.stderr
    assert "auto, resident" in done.stderr


def refusal(*words: str) -> str:
    """Return what is said to options that can't be used, in this process."""
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, UsageError), result.output
    return str(result.exception)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--role", "infer", "allowed are lora and prompt"),
        ("--prompt-kind", "hard", "allowed are soft and prefix"),
        ("--lr", "0", "--lr is 0.0; must be above 0"),
        ("--lr", "nan", "--lr is nan"),
        ("--optimizer", "adam", "--optimizer is 'adam'; allowed are adamw and sgd."),
        ("--momentum", "0.9", "--momentum is 0.9; only --optimizer sgd has one."),
        ("--momentum", "1", "--momentum is 1.0; must be from 0 to 0.999."),
        ("--adversarial", "0", "--adversarial is 0.0; must be above 0 and at most 1000."),
        ("--schedule", "step", "--schedule is 'step'; allowed are constant, linear and cosine."),
        ("--min-rank", "9", "--min-rank is 9; at most --rank (4)"),
        ("--min-seq-len", "65", "--min-seq-len is 65; at most --seq-len (64)"),
        ("--memory", "much", "700MB"),
        ("--model", "/no/such/model", "--model is /no/such/model; there is no such"),
        ("--data", "/no/such/data.txt", "--data is /no/such/data.txt; there is no such"),
    ],
)
def test_a_value_that_can_not_be_used(words: list[str], option: str, value: str, said: str) -> None:
    assert said in refusal(*words, option, value)


def test_data_of_another_kind(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("a,b")
    assert ".jsonl or .txt" in refusal(*words, "--data", str(tmp_path / "my.csv"))


def test_a_folder_with_something_in_it_is_kept(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    said = refusal(*words)
    assert str(tmp_path / "adapter") in said
    assert "--force" in said


def test_a_file_is_no_folder_for_an_adapter(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "adapter").write_text("")
    assert "name a folder" in refusal(*words)


def test_where_nothing_was_stopped_nothing_is_resumed(words: list[str], tmp_path: Path) -> None:
    said = refusal(*words, "--resume")
    assert f"{tmp_path / 'adapter'} holds no training state" in said


@pytest.mark.root
@pytest.mark.slow
def test_a_rung_that_breaks_the_limit_is_killed_and_a_lower_one_finishes(
    train: Train, words: list[str], make_base: Callable[..., Path]
) -> None:
    # 160 MB of float32 weights: they are resident on one rung, and never on the other. Half of that
    # was enough only where the libraries compile kernels for the processor's matrices (AMX).
    base = make_base("llama", hidden_size=512, intermediate_size=2048, num_hidden_layers=10)
    words[words.index("--model") + 1] = str(base)
    done = train(*words, "--rung", "resident", "--memory", "330MB", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["out_of_memory"][0] == "resident"
    assert told["rung"] in ("streamed", "core")
    assert told["measured_peak_bytes"] <= 330e6
    assert "bytes more than there are. It runs all the same, under the limit." in done.stderr
