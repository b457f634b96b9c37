"""`lorikeet-hub demo` as a user runs it: six devices, five rounds, the promised numbers."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml

from tests.asyncapi_reader import AsyncApi
from tests.system.hub_process import poll
from tests.system.recorder import Recorded, Recorder

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(900)]

WITHOUT_TORCH = find_spec("llama_cpp") is not None
HUB = Path(sys.executable).with_name("lorikeet-hub")


class Run(NamedTuple):
    """A demo that has ended: its folder, and every message that passed its broker."""

    folder: Path
    recorded: list[Recorded]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs")
    command = [str(HUB), "demo", "--out", str(out), "--name", "x", "--seed", "7", "--json"]
    with (out / "log").open("w+") as log:
        demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            # The broker runs before the hub's file is written; the hub connects a second later.
            file = out / "x" / "work" / "hub.yaml"
            poll("the demo's broker", lambda: demo.poll() is not None or written(file), 240)
            assert demo.poll() is None, (out / "log").read_text()[-4000:]
            url = urlsplit(yaml.safe_load(file.read_text())["broker"]["url"])
            with Recorder(str(url.hostname), int(url.port or 0)) as recorder:
                output, _ = demo.communicate()
        finally:
            demo.terminate()  # it ends what it started
            demo.wait(60)
    assert demo.returncode == 0, (out / "log").read_text()[-4000:]
    assert json.loads(output)["phase"] == "done"
    return Run(out / "x", recorder.messages)


def written(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


@pytest.fixture(scope="module")
def finished(run: Run) -> Path:
    return run.folder


@pytest.fixture(scope="module")
def summary(finished: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((finished / "summary.json").read_text())
    return document


def test_devices_take_their_roles_from_their_limits(summary: dict[str, Any]) -> None:
    devices = summary["devices"]
    assert {one["role"] for one in devices} == {"lora", "prompt", "infer"}
    assert len({one["rank"] for one in devices if one["role"] == "lora"}) >= 2
    assert all(one["reason"] for one in devices)


def test_no_device_exceeds_its_limit(summary: dict[str, Any]) -> None:
    for one in summary["devices"]:
        assert 0 < one["peak_bytes"] <= one["memory_limit_bytes"], one["id"]


def test_the_held_out_loss_falls_by_at_least_eight_percent(summary: dict[str, Any]) -> None:
    losses = summary["heldout_loss"]
    assert len(losses) == summary["rounds"] == 5
    assert losses[-1] <= 0.92 * summary["base_loss"]
    assert losses[-1] < losses[0]


def test_every_device_gains_on_its_own_held_out_text(summary: dict[str, Any]) -> None:
    for one in summary["devices"]:
        assert one["loss_after"] < one["loss_before"], one["id"]


def test_taking_the_soft_prompt_away_raises_the_loss(summary: dict[str, Any]) -> None:
    assert summary["loss_without_prompt"] > summary["heldout_loss"][-1]


def test_bytes_and_memory_are_told(summary: dict[str, Any]) -> None:
    assert all(one["bytes_up"] > 0 and one["bytes_down"] > 0 for one in summary["devices"])
    assert summary["hub"]["peak_bytes"] > 0
    assert 0 < summary["total_peak_bytes"] < 4 * 2**30


def test_every_event_of_the_job_is_kept(finished: Path) -> None:
    events = [json.loads(line) for line in (finished / "events.jsonl").read_text().splitlines()]
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "Submitted"
    assert kinds.count("Published") == 5
    accepted = [
        (event["data"]["round"], event["data"]["device"])
        for event in events
        if event["kind"] == "UpdateAccepted"
    ]
    # The sixth trains, too, where llama.cpp is installed: without backprop, and without torch.
    trainers = 6 if WITHOUT_TORCH else 5
    assert len(accepted) == len(set(accepted)) == 5 * trainers


@pytest.mark.skipif(not WITHOUT_TORCH, reason="llama-cpp-python isn't installed: make llama")
def test_one_device_has_no_torch_and_takes_part_all_the_same(summary: dict[str, Any]) -> None:
    (attic,) = [one for one in summary["devices"] if one["id"] == "attic"]
    assert (attic["role"], attic["rung"]) == ("infer", "forward-only (llama.cpp)")
    assert attic["steps"] > 0
    # torch alone would take more [199 MB, measured].
    assert attic["peak_bytes"] < 190e6


def test_every_message_is_as_documented(run: Run) -> None:
    seen = AsyncApi.of_the_project().judge(run.recorded)
    assert seen.faults == []
    # Five rounds in which five train, and a last one in which all six only evaluate; the sixth
    # evaluates in the rounds, too.
    assert seen.names["Result"] >= 31
    assert seen.names["Accepted"] >= 31
    for name in ("HubState", "RoundAnnounce", "DeviceState", "DeviceInfo", "Telemetry", "Hello"):
        assert seen.names[name], name
    for name in ("Welcome", "Offer", "Take", "Evaluated", "BlobInit", "Chunk"):
        assert seen.names[name], name


def test_the_report_needs_nothing_from_elsewhere(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "Held-out loss" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://127.0.0.1", "")
    assert "<script" not in page


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_peft_loads_what_the_demo_made(finished: Path, summary: dict[str, Any]) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.arange(32, 96).reshape(2, 32)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        base = AutoModelForCausalLM.from_pretrained(summary["job"]["model"]["base"])
        plain = base(input_ids=ids).logits
        tuned = PeftModel.from_pretrained(base, finished / "adapter")
        changed = tuned(input_ids=ids).logits
        prompted = PeftModel.from_pretrained(
            tuned.merge_and_unload(), finished / "adapter" / "prompt"
        )
        both = prompted(input_ids=ids).logits
    assert (changed - plain).abs().max() > 0.1
    assert (both[:, -32:] - changed).abs().max() > 0.01


def test_ctrl_c_ends_every_process_and_says_where_the_results_are(tmp_path: Path) -> None:
    command = [str(HUB), "demo", "--out", str(tmp_path), "--name", "y", "--seed", "7"]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    logs = tmp_path / "y" / "work" / "logs"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (logs / "attic.log").exists():
        time.sleep(0.1)
    started = _below(demo.pid)
    assert len(started) >= 8  # broker, hub, six agents
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert str(tmp_path / "y") in output.replace("\n", "")
    # A worker ends by itself once its agent is gone, which takes it a moment.
    poll("their end", lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()])


def _below(pid: int) -> list[int]:
    """Return all processes that descend from one."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return [one for one in found[1:] if os.path.exists(f"/proc/{one}")]  # noqa: PTH110
