"""``lorikeet-hub demo``: a broker, a hub and six unequal devices on one machine.

Each is an operating-system process of its own; they talk only through MQTT (and HTTP for the base
model). The demo itself only starts them, watches through the hub's HTTP interface, and sums up.
"""

import logging
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from rich.console import Console

from hub.broker import Broker, start_broker
from hub.cli.client import HubClient
from hub.cli.output import print_json
from hub.demo.base import TrainStep, cached_base
from hub.demo.final_table import final_table
from hub.demo.finish import collect_summary, save_results
from hub.demo.fleet import (
    NAMES,
    NO_TORCH,
    THREADS,
    WITHOUT_TORCH,
    choose_limits,
    command_beside,
    engine_limit,
    has_llama_cpp,
    read_ladder,
)
from hub.demo.follow import Follower
from hub.demo.processes import Processes
from hub.demo.splits import Split, write_split_texts
from hub.demo.texts import DeviceText
from hub.demo.view import Snapshot, View, make_view
from hub.errors import HubError, UnreachableError
from wire.errors import WireError

JOB = "demo"
FLEET = "demo"
POLL_S = 0.5
START_S = 60.0
#: For the device without torch: few directions, so that nobody waits for it.
FORWARD = {"side": 2, "steps": 14, "batch": 4}
PIPED_COLUMNS = 120  # where nobody's window sets the width
#: No round of the demo takes longer than a few minutes, whatever the machine.
LIMIT_S = 1800.0


class Interrupted(Exception):
    """Ctrl-C or a polite request to end."""


def main(
    *,
    model: Path | None,
    out: Path,
    name: str | None,
    rounds: int,
    seed: int | None,
    split: Split,
    alpha: float,
    keep: bool,
    as_json: bool,
) -> int:
    """Run the demo; return the exit code."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = (out / (name or datetime.now().strftime("%Y%m%d-%H%M%S"))).absolute()
    if folder.exists() and any(folder.iterdir()):
        raise HubError(f"--name: {folder} exists already; choose another name or remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=as_json, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=as_json, highlight=False, width=PIPED_COLUMNS)
    chosen = 7 if seed is None else seed
    texts = write_split_texts(folder / "work" / "texts", split, alpha, chosen)
    demo = Demo(folder, model, console, rounds=rounds, seed=chosen, texts=texts)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        summary = demo.run()
    except Interrupted:
        demo.stop()
        console.print(f"stopped; every process of the demo has ended. Results so far: {folder}")
        return 130
    except (HubError, WireError) as error:
        demo.stop()
        console.print(f"lorikeet-hub demo: {error}", markup=False)
        console.print(f"the logs are in {demo.logs}")
        return 1
    finally:
        demo.stop()
    if not keep:
        shutil.rmtree(folder / "work", ignore_errors=True)
    if as_json:
        print_json(summary)
    else:
        console.print(final_table(summary))
        console.print(f"report: {folder / 'report.html'}")
        console.print(f"adapter: {folder / 'adapter'} (PEFT; the soft prompt is in prompt/)")
    return 0 if summary["phase"] == "done" else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


class Demo:
    """One run.

    Args:
        folder: ``runs/<name>``.
        model: a Hugging Face folder; None trains the small base.
        console: where progress goes.
        rounds, seed: of the job.
        texts: the devices' private ones.
    """

    def __init__(
        self,
        folder: Path,
        model: Path | None,
        console: Console,
        *,
        rounds: int,
        seed: int,
        texts: list[DeviceText],
    ) -> None:
        self.folder = folder
        self.logs = folder / "work" / "logs"
        self._model = model
        self._rounds = rounds
        self._seed = seed
        self._texts = texts
        self._console = console
        self._llama_cpp = has_llama_cpp()
        self._processes = Processes()
        self._broker: Broker | None = None
        self._view: View = make_view(console)
        self._began = time.monotonic()
        self._ended = threading.Event()

    def run(self) -> dict[str, Any]:
        """Run all of it; return the summary."""
        threading.Thread(target=self._sample, daemon=True).start()
        base = self._base()
        job = self._job_file(base)
        self._note("measuring what the runtime needs on this machine")
        plans = self.folder / "work" / "plan"
        limits = choose_limits(read_ladder(base, job, plans))
        if self._llama_cpp:
            limits[-1] = engine_limit(read_ladder(base, job, plans, NO_TORCH))
        else:
            self._note("llama.cpp isn't installed (make llama): every device computes with torch")
        self._broker = start_broker(self.folder / "work" / "broker")
        url = self._start_hub(self._broker)
        with HubClient(url) as client:
            self._wait_for(client)
            devices = list(NAMES)
            for device, limit, text in zip(devices, limits, self._texts, strict=True):
                self._start_agent(device, limit, text)
            self._await_fleet(client, len(devices))
            client.submit((self.folder / "job.yaml").read_text())
            follower = Follower(client, JOB, devices)
            self._follow(follower)
            return self._finish(client, follower, job, dict(zip(devices, self._texts, strict=True)))

    def stop(self) -> None:
        """End every process that was started, by pid; safe to call twice."""
        self._ended.set()
        self._view.close()
        self._processes.stop_all()
        if self._broker is not None:
            self._broker.stop()

    # Before the rounds

    def _base(self) -> Path:
        if self._model is not None:
            return self._model.absolute()

        def show(step: TrainStep) -> None:
            self._note(f"the hub trains the base: step {step.step}/{step.steps}, "
                       f"loss {step.loss:.3f}")  # fmt: skip

        return cached_base(show)

    def _job_file(self, base: Path) -> dict[str, Any]:
        job = demo_job(base, self._rounds, self._seed)
        if self._llama_cpp:
            job["local"]["forward"] = FORWARD
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
        return job

    def _start_hub(self, broker: Broker) -> str:
        listen = f"127.0.0.1:{_free_port()}"
        config = {
            "fleet": FLEET,
            "broker": {"url": broker.url, "profile": _profile(broker)},
            "http": {"listen": listen},
            "store": {"database": "sqlite:///hub/hub.db", "blobs": "hub/blobs"},
        }
        file = self.folder / "work" / "hub.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False))
        command = [command_beside("lorikeet-hub"), "serve", "--config", str(file)]
        self._processes.start("hub", command, self.logs / "hub.log")
        return f"http://{listen}"

    def _wait_for(self, client: HubClient) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                client.jobs()
            except UnreachableError:
                self._check_alive()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return

    def _await_fleet(self, client: HubClient, count: int) -> None:
        """Let all devices come: the first round takes who is there, and chance would decide it."""
        self._note(f"{count} devices are starting")
        deadline = time.monotonic() + START_S
        while sum(one.state == "ready" for one in client.devices()) < count:
            self._check_alive()
            if time.monotonic() > deadline:
                raise HubError(
                    f"fewer than {count} devices were ready after {START_S:.0f} s; their logs are "
                    f"in {self.logs}."
                )
            time.sleep(0.1)

    def _start_agent(self, device: str, limit_bytes: int, text: DeviceText) -> None:
        if self._broker is None:
            raise HubError("the broker must run before the agents.")
        command = [
            command_beside("lorikeet-agent"),
            "run",
            *("--broker", self._broker.url),
            *("--broker-profile", _profile(self._broker)),
            *("--fleet", FLEET),
            *("--id", device),
            *("--data", str(text.path)),
            *("--memory", str(limit_bytes)),
            *("--state", str(self.folder / "work" / "devices" / device)),
            *("--threads", str(THREADS)),
        ]
        more = NO_TORCH if self._llama_cpp and device == WITHOUT_TORCH else None
        self._processes.start(device, command, self.logs / f"{device}.log", more)

    # While the rounds go on

    def _follow(self, follower: Follower) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not follower.over:
            self._view.update(follower.look(self._elapsed()))
            self._check_alive()
            if time.monotonic() > deadline:
                raise HubError(f"the job did not end within {LIMIT_S:.0f} s.")
            time.sleep(POLL_S)
        self._view.update(follower.look(self._elapsed()))

    def _sample(self) -> None:
        while not self._ended.wait(POLL_S):
            self._processes.sample_memory(*([self._broker.pid] if self._broker else []))

    def _check_alive(self) -> None:
        for name, code in self._processes.dead():
            raise HubError(f"{name} ended with exit code {code}; see {self.logs / name}.log.")

    def _finish(
        self,
        client: HubClient,
        follower: Follower,
        job: dict[str, Any],
        texts: dict[str, DeviceText],
    ) -> dict[str, Any]:
        summary = collect_summary(
            follower,
            job=job,
            texts=texts,
            hub=client.status(),
            broker=self._broker.kind if self._broker else "",
            total_peak_bytes=self._processes.peak_bytes,
            seconds=self._elapsed(),
            command=shlex.join(["lorikeet-hub", *sys.argv[1:]]),
        )
        self._view.close()
        save_results(self.folder, client, JOB, summary)
        return summary

    def _note(self, text: str) -> None:
        self._view.update(
            Snapshot(
                phase="starting",
                round=0,
                rounds=self._rounds,
                elapsed_s=self._elapsed(),
                note=text,
            )
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._began


def demo_job(base: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Return the demo's job file.

    Batch and length are large for so small a model: its activations must outweigh torch's own
    memory, or all rungs would need the same.
    """
    return {
        "job": JOB,
        "model": {"base": str(base)},
        "method": "lora+prompt",
        "lora": {"rank": 16, "min_rank": 4},
        "prompt": {"tokens": 16, "lr": 0.02},
        "rounds": rounds,
        "cohort": {"min": 3, "max": 6},
        "local": {
            "steps": 4,
            "batch": 32,
            "min_batch": 16,
            "seq_len": 256,
            "min_seq_len": 256,
            "lr": 0.003,
        },
        # Far off: a device that misses a deadline on a busy machine would make two runs differ.
        "deadline_s": 600,
        "seed": seed,
    }


def _profile(broker: Broker) -> str:
    """Return whose limits to keep: without its own, amqtt's silence to MQTT 5 is waited for."""
    return "amqtt" if broker.kind == "amqtt" else "generic"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
