"""The worker through its real pipes: what it does, and what it never writes."""

import json
import queue
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.protocol import (
    Event,
    Failed,
    Feedback,
    Fetch,
    Finished,
    Losses,
    Pause,
    Paused,
    Progress,
    Ready,
    Warm,
    Work,
)
from edge_agent.training.reproject import difference, reproject
from wire.codecs import by_name
from wire.messages import LocalWork
from wire.tensors import PackedFile
from wire.trained_factors import update_shapes
from wire.worker_start import worker_environment

ROOT = Path(__file__).parents[2]
MARKER = "ZQXJ"  # stands in every line of the private text
TIMEOUT_S = 120


class Driven:
    """A worker process; remembers every byte that it wrote."""

    def __init__(self, folder):
        environment = worker_environment(1) | {"PYTHONPATH": str(ROOT)}
        self.written = bytearray()
        self._log = folder / "worker.log"
        self._lines = queue.SimpleQueue()
        with self._log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.written += line
            self._lines.put(line)

    def write(self, line):
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def do(self, command):
        """Send a command; return its events, up to the one that ends it."""
        self.send(command)
        return self.until(lambda event: not isinstance(event, Progress | Losses))

    def send(self, command):
        self.write(msgspec.json.encode(command))

    def until(self, wanted):
        """Return the events up to the first that is wanted."""
        events = []
        while not events or not wanted(events[-1]):
            events.append(msgspec.json.decode(self._lines.get(timeout=TIMEOUT_S), type=Event))
        return events

    def end(self):
        self.process.stdin.close()
        code = self.process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        self.process.stdout.close()
        self.written += self._log.read_bytes()
        return code


@pytest.fixture
def worker(tmp_path):
    driven = Driven(tmp_path)
    yield driven
    if driven.process.poll() is None:
        driven.end()


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "private.jsonl"
    lines = [json.dumps({"text": f"{MARKER} sentence {i} of {MARKER}"}) for i in range(60)]
    lines += [json.dumps({"prompt": f"{MARKER}? {i}", "response": MARKER}) for i in range(60)]
    file.write_text("\n".join([f"{MARKER} broken", *lines]))
    return file


def task(base, saved, data, out, **changes):
    settings = {
        "task": "job.1.dev", "role": "lora", "rung": "resident", "rank": 2,
        "base_folder": str(base), "manifest": str(saved.manifest_file),
        "parts": {sha256: str(path) for sha256, path in saved.parts.items()},
        "data": [str(data)], "codec": "raw", "out": str(out), "batch": 4, "seq_len": 32,
        "work": LocalWork(steps=4, batch=4, seq_len=32, optimizer="adamw", lr=0.01, seed=1),
        "variants": ["base", "adapter", "without_prompt"],
    }  # fmt: skip
    return Work(**{**settings, **changes})


def test_a_life_of_a_worker(worker, llama, make_adapter, data, tmp_path):
    saved = make_adapter(llama, rank=4, tokens=3)
    out = tmp_path / "out"

    (ready,) = worker.do(Warm())
    assert isinstance(ready, Ready)
    assert 100e6 < ready.runtime_bytes < 2e9

    # Training: losses come before it, the update after it.
    events = worker.do(task(llama, saved, data, out))
    (losses,) = [event for event in events if isinstance(event, Losses)]
    assert [e.variant for e in losses.evaluations] == ["base", "adapter", "without_prompt"]
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert list(dict.fromkeys(stages)) == ["load", "evaluate", "train", "pack"]
    done = events[-1]
    assert isinstance(done, Finished), done
    assert done.train.steps == 4
    with PackedFile.open(Path(done.update), saved.manifest.expected_lora(2)) as update:
        assert all(update.get(name).any() for name in update.names())

    # The same task again, on the warm base, gives the same bytes.
    first = Path(done.update).read_bytes()
    again = worker.do(task(llama, saved, data, out, variants=[]))[-1]
    assert Path(again.update).read_bytes() == first

    # Another role on the same base.
    prompt = worker.do(task(llama, saved, data, out, role="prompt", rung="prompt", rank=0))[-1]
    with PackedFile.open(Path(prompt.update), saved.manifest.expected_prompt()) as update:
        assert update.get("prompt").any()
    infer = task(llama, saved, data, out, role="infer", rung="infer", rank=0, work=None)
    done = worker.do(infer)[-1]
    assert (done.update, done.train) == (None, None)

    # Failures have a kind, and the worker lives on.
    empty = tmp_path / "empty.jsonl"
    empty.write_text(f"{MARKER} broken\n" * 3)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((llama / "config.json").read_bytes())
    for wrong, kind in (
        (task(llama, saved, empty, out), "data"),
        (task(llama, saved, data, out, rank=5), "adapter"),
        (task(llama, saved, data, out, rung="unheard-of"), "other"),
        (task(llama, saved, data, out, codec="none"), "other"),
        (task(bare, saved, data, out), "model"),
        (Fetch(http="http://127.0.0.1:1", digest="0" * 64, folder=str(bare)), "network"),
    ):
        failed = worker.do(wrong)[-1]
        assert isinstance(failed, Failed)
        assert failed.kind == kind, failed
    worker.write(b"this is no command")
    assert isinstance(worker.do(Warm())[-1], Ready)
    assert isinstance(worker.do(infer)[-1], Finished)

    # Its standard input ends: so does the worker. No word of the data is in anything it wrote.
    assert worker.end() == 0
    assert MARKER.encode() not in bytes(worker.written)
    assert b'"type":"finished"' in bytes(worker.written)


def trains(event):
    return isinstance(event, Progress) and event.stage == "train" and event.step > 0


def test_a_task_that_is_paused_goes_on_where_it_stood(worker, llama, make_adapter, data, tmp_path):
    saved = make_adapter(llama, rank=4, tokens=3)
    state = tmp_path / "state" / "training.safetensors"
    local = LocalWork(steps=300, batch=4, seq_len=32, optimizer="adamw", lr=0.01, seed=1)
    whole = task(llama, saved, data, tmp_path / "whole", rung="streamed", work=local, variants=[])
    first = Path(worker.do(whole)[-1].update).read_bytes()

    work = msgspec.structs.replace(whole, out=str(tmp_path / "parts"), checkpoint=str(state))
    steps = [0]
    for _ in range(2):
        worker.send(work)
        worker.until(lambda event, last=steps[-1]: trains(event) and event.step > last)
        worker.send(Pause(task=work.task))
        steps += [
            event.step
            for event in worker.until(lambda event: isinstance(event, Paused | Finished))
            if isinstance(event, Paused)
        ]
        assert state.is_file()
    assert len(steps) == 3
    assert 0 < steps[1] < steps[2] < 300

    # Another process takes it up, as after a reboot.
    assert worker.end() == 0
    again = Driven(tmp_path)
    try:
        done = again.do(work)
        assert min(event.step for event in done if trains(event)) >= steps[2]
        assert done[-1].train.steps == 300
        assert Path(done[-1].update).read_bytes() == first
    finally:
        again.end()
    assert MARKER.encode() not in bytes(worker.written) + bytes(again.written)
    assert MARKER.encode() not in state.read_bytes()


def test_a_pause_of_another_task_is_none_of_this_one(worker, llama, make_adapter, data, tmp_path):
    saved = make_adapter(llama, rank=4, tokens=3)
    work = task(llama, saved, data, tmp_path / "out", rung="streamed")
    worker.send(Pause(task="job.0.dev"))
    assert isinstance(worker.do(work)[-1], Finished)
    # One that comes before its task's first step ends it there; the next try is not concerned.
    worker.send(work)
    worker.send(Pause(task=work.task))
    ended = worker.until(lambda event: isinstance(event, Paused | Finished))[-1]
    assert isinstance(ended, Paused)
    assert isinstance(worker.do(work)[-1], Finished)


def moves_of(event, saved):
    with PackedFile.open(Path(event.update), saved.manifest.expected_lora(2)) as packed:
        return {name: packed.get(name) for name in packed.names()}


def test_what_a_biased_codec_leaves_out_is_part_of_the_next_update(
    worker, llama, make_adapter, data, tmp_path
):
    saved = make_adapter(llama, rank=4, tokens=0)
    folder = tmp_path / "residuals" / "job"

    def done(name, accepted="", codec="topk"):
        feedback = Feedback(folder=str(folder), accepted=accepted)
        work = task(
            llama, saved, data, tmp_path / "out", task=name, rung="streamed", variants=[],
            codec=codec, feedback=feedback,
        )  # fmt: skip
        return moves_of(worker.do(work)[-1], saved)

    own = done("job.1.dev", codec="raw")
    assert not folder.exists()  # nothing is left out
    first = done("job.1.dev")
    kept = [name for name in own if np.count_nonzero(first[name]) < own[name].size / 2]
    assert kept
    # The task is the same in each round here, so that the next update alone tells of a memory.
    forgetful = done("job.2.dev")
    assert all(np.array_equal(forgetful[name], first[name]) for name in own)
    done("job.1.dev")
    second = done("job.2.dev", accepted="job.1.dev")
    name = next(name for name in kept if name.endswith(".lora_B"))
    target = name.removesuffix(".lora_B")
    b, a = (saved.tensors[f"{target}.lora_{kind}"] for kind in "BA")
    pairs = [(one[f"{target}.lora_B"], one[f"{target}.lora_A"]) for one in (own, first)]
    d_b, d_a = reproject(difference(b[:, :2], a[:2], *pairs), b[:, :2], a[:2])
    codec = by_name("topk")
    for part, move in ((f"{target}.lora_B", d_b), (f"{target}.lora_A", d_a)):
        wanted = own[part] + move
        expected = codec.expand(codec.compress(wanted, np.random.default_rng(0)), wanted.shape)
        assert second[part] == pytest.approx(expected, rel=1e-4, abs=1e-7)
        assert not np.array_equal(second[part], first[part])


def test_a_rule_of_one_factor_has_a_memory_and_one_of_cores_has_none(
    worker, llama, make_adapter, data, tmp_path
):
    saved = make_adapter(llama, rank=4, tokens=0)

    def done(trains, name, accepted=""):
        feedback = Feedback(folder=str(tmp_path / trains), accepted=accepted)
        local = LocalWork(
            steps=2, batch=4, seq_len=32, optimizer="adamw", lr=0.01, seed=1, trains=trains
        )
        work = task(
            llama, saved, data, tmp_path / "out", task=name, rung="streamed", variants=[],
            codec="topk", feedback=feedback, work=local,
        )  # fmt: skip
        ended = worker.do(work)[-1]
        assert isinstance(ended, Finished)
        shapes = update_shapes(saved.manifest.expected_lora(2), trains)
        with PackedFile.open(Path(ended.update), shapes) as packed:
            return {name: packed.get(name) for name in packed.names()}

    for trains, kept in (("b", True), ("core", False)):
        first, second = done(trains, "job.1.dev"), done(trains, "job.2.dev", "job.1.dev")
        assert (tmp_path / trains).exists() == kept
        # The task is the same in each round here: only a memory makes another update of it.
        same = all(np.array_equal(value, second[name]) for name, value in first.items())
        assert same != kept


LEAN = """
import io, sys
import msgspec
from edge_agent import worker
from edge_agent.protocol import Warm, Work
one = worker.Worker(io.BytesIO())
one.do(Warm())
for line in sys.stdin.buffer:
    work = msgspec.json.decode(line, type=Work)
    one.do(work)
    assert b'"type":"finished"' in one._events.getvalue(), one._events.getvalue()[-300:]
print(sorted({"transformers", "peft"} & set(sys.modules)))
"""


def test_a_worker_of_the_streamed_rungs_never_imports_the_heavy_libraries(
    llama, make_adapter, data, tmp_path
):
    saved = make_adapter(llama, rank=4, tokens=3)
    works = [
        task(llama, saved, data, tmp_path / "a", rung="streamed"),
        task(llama, saved, data, tmp_path / "b", role="prompt", rung="prompt", rank=0),
        task(llama, saved, data, tmp_path / "c", role="infer", rung="infer", rank=0, work=None),
    ]
    done = subprocess.run(
        [sys.executable, "-c", LEAN], cwd=ROOT, capture_output=True, timeout=TIMEOUT_S,
        input=b"".join(msgspec.json.encode(work) + b"\n" for work in works), check=False,
    )  # fmt: skip
    assert done.stdout == b"[]\n", done.stderr[-2000:]


NOISY = """
import os, sys
from edge_agent import worker
from edge_agent.protocol import Ready

class Noisy(worker.Worker):
    def _do(self, command):
        print("a library prints to standard output")
        os.write(1, b"and another one to its descriptor\\n")
        assert sys.stdin.read() == ""  # nor can one swallow commands
        self.report(Ready(runtime_bytes=1))
        raise ValueError("MARKER " * 3)

worker.Worker = Noisy
sys.exit(worker.main())
"""


def test_prints_of_libraries_and_messages_of_errors_stay_out():
    process = subprocess.Popen(
        [sys.executable, "-c", NOISY],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    process.stdin.write(msgspec.json.encode(Warm()) + b"\n")
    process.stdin.flush()
    ready, failed = (msgspec.json.decode(process.stdout.readline(), type=Event) for _ in range(2))
    assert ready == Ready(runtime_bytes=1)
    assert (failed.kind, failed.message.split(" ")[0]) == ("other", "ValueError")
    rest, errors = process.communicate(timeout=TIMEOUT_S)
    assert rest == b""
    assert b"a library prints" in errors
    assert b"and another one" in errors
    assert b"MARKER" not in errors + failed.message.encode()


STUCK = """
import threading
from edge_agent import worker

class Stuck(worker.Worker):
    def _do(self, command):
        worker.log.error("busy")
        threading.Event().wait()

worker.Worker = Stuck
worker.main()
"""


def test_a_worker_in_the_middle_of_a_task_ends_with_its_supervisor():
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    process.stdin.write(msgspec.json.encode(Warm()) + b"\n")
    process.stdin.flush()
    assert b"busy" in process.stderr.readline()
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0


SHORT = """
import sys
from edge_agent import worker
class Short(worker.Worker):
    def _do(self, command):
        import torch
        torch.empty(2**55)
worker.Worker = Short
worker.main()
"""


def test_an_allocation_that_fails_is_told_as_memory():
    process = subprocess.Popen(
        [sys.executable, "-c", SHORT],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    process.stdin.write(msgspec.json.encode(Warm()) + b"\n")
    process.stdin.flush()
    failed = msgspec.json.decode(process.stdout.readline(), type=Event)
    process.communicate(timeout=TIMEOUT_S)
    assert (failed.kind, failed.task) == ("memory", "")
