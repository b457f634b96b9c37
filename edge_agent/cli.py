"""``lorikeet-agent``: the device's command line."""

import fcntl
import json
import logging
import os
import re
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_agent.errors import AgentError, DataError, ModelError, UsageError
from edge_agent.probe.memory import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The agent on a device: takes the role that its memory allows, trains on text that "
    "never leaves it, and exchanges adapter updates with a hub over MQTT.",
)


@app.command(
    epilog="Example: lorikeet-agent run --broker mqtt://127.0.0.1:1883 --fleet clinics "
    "--data my.jsonl --memory 700MB"
)
def run(  # noqa: PLR0917  (options)
    broker: Annotated[str, typer.Option(help="mqtt://host:port", show_default=False)],
    data: Annotated[
        list[Path],
        typer.Option(
            help="Private text: .jsonl (prompt/response or text), .txt, or a folder of either. "
            "May be given more than once.",
            show_default=False,
        ),
    ],
    fleet: Annotated[str, typer.Option(help="The hub's fleet.")] = "default",
    device_id: Annotated[
        str | None,
        typer.Option("--id", help="This device's id. Default: the host's name."),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="Limit for the whole agent, e.g. 700MB. Default: all that is free."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Where the agent keeps its files. Default: the XDG state folder."),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads for training; 0: one for each core.")
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document at the end.")
    ] = False,
) -> None:
    """Connect to a hub and take part in its jobs until stopped (Ctrl-C)."""
    from edge_agent.agent import Supervisor
    from edge_agent.probe.machine import cores
    from edge_agent.task_run import Settings

    device = device_id or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
    for path in data:
        if not path.exists():
            raise UsageError(f"--data is {path}; there is no such file or folder.")
    folder = state or _default_state(device)
    settings = Settings(
        broker=broker,
        fleet=fleet,
        device=device,
        data=[str(path) for path in data],
        state_folder=str(folder),
        memory_bytes=_memory_bytes(memory),
        threads=threads or int(cores()),
    )
    _log_to_stderr()
    with _only_one(folder):
        agent = Supervisor(settings)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: agent.stop())
        if agent.data.skipped:
            logging.getLogger("edge_agent").warning(
                "%d broken lines were skipped; %d examples are left",
                agent.data.skipped,
                agent.data.examples,
            )
        agent.run()
    if as_json:
        sys.stdout.write(json.dumps({"device": device, "peak_bytes": agent.peak_bytes()}) + "\n")


@app.command(
    epilog="Example: lorikeet-agent plan --model ./base --memory 700MB --rank 16 --batch 4"
)
def plan(  # noqa: PLR0917  (options)
    model: Annotated[Path, typer.Option(help="A Hugging Face folder; config.json suffices.")],
    memory: Annotated[
        str | None, typer.Option(help="Limit for the whole agent. Default: all that is free.")
    ] = None,
    method: Annotated[str, typer.Option(help="lora, prompt or lora+prompt")] = "lora",
    rank: Annotated[int, typer.Option(min=1)] = 16,
    min_rank: Annotated[int, typer.Option(min=1)] = 2,
    batch: Annotated[int, typer.Option(min=1)] = 4,
    min_batch: Annotated[int, typer.Option(min=1)] = 1,
    seq_len: Annotated[int, typer.Option(min=8, help="tokens")] = 256,
    min_seq_len: Annotated[int, typer.Option(min=8, help="tokens")] = 128,
    prompt_tokens: Annotated[int, typer.Option(min=1)] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show every rung of a model's ladder, its predicted peak, and the one this device takes."""
    from edge_agent.plan_command import show_plan
    from wire.messages import JobKnobs

    if method not in ("lora", "prompt", "lora+prompt"):
        raise UsageError(f"--method is {method!r}; allowed are lora, prompt and lora+prompt.")
    for name, least, value in (
        ("rank", min_rank, rank),
        ("batch", min_batch, batch),
        ("seq-len", min_seq_len, seq_len),
    ):
        if least > value:
            raise UsageError(f"--min-{name} is {least}; at most --{name} ({value}) is allowed.")
    knobs = JobKnobs(
        method=method,
        rank=rank,
        min_rank=min_rank,
        batch=batch,
        min_batch=min_batch,
        seq_len=seq_len,
        min_seq_len=min_seq_len,
        prompt_tokens=prompt_tokens if "prompt" in method else 0,
    )
    show_plan(model, knobs, _memory_bytes(memory), as_json=as_json)


def _memory_bytes(memory: str | None) -> int | None:
    try:
        return parse_size(memory) if memory else None
    except ValueError as error:
        raise UsageError(f"--memory: {error}") from error


@contextmanager
def _only_one(folder: Path) -> "Iterator[None]":
    """Hold the state folder: two agents in one would spoil each other's files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AgentError(
                f"state folder {folder} is used by another agent; give each its own --state."
            ) from error
        yield


def _default_state(device: str) -> Path:
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "lorikeet" / device


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )


def main() -> None:
    """Run the command line; exit 0, 1 (failed) or 2 (usage)."""
    from wire.errors import BrokerUrlError, MalformedError, WireError

    try:
        app()
    except (UsageError, DataError, ModelError, MalformedError, BrokerUrlError) as error:
        sys.stderr.write(f"lorikeet-agent: {error}\n")
        sys.exit(2)
    except (AgentError, WireError) as error:
        sys.stderr.write(f"lorikeet-agent: {error}\n")
        sys.exit(1)
