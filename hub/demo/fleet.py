"""The demo's six devices: unequal limits, so that each takes the role that fits.

The limits are made to measure for this machine and model: `lorikeet-agent plan` predicts each
rung's peak, and a device that is to show a rung gets a limit between that rung and whatever it
would rather take. What it then takes, the agent itself decides from its limit alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from hub.errors import HubError

#: How far into the gap between a rung and the next better one its device's limit lies.
INTO_THE_GAP = 0.6
#: What the best device gets over what its rung needs.
HEADROOM = 1.15
#: Of each device: six of them share the machine.
THREADS = 1
NAMES = ("hall", "lab", "library", "ward", "porch", "attic")
#: The device without torch, where llama.cpp is installed: the one that only infers.
WITHOUT_TORCH = NAMES[-1]
#: With this its processes can't import torch, though it is there (`edge_agent.runtimes`).
NO_TORCH = {"LORIKEET_RUNTIME": "llama.cpp"}


class Line(msgspec.Struct, frozen=True):
    """One line of the ladder."""

    role: str
    rung: str
    rank: int
    batch: int
    seq_len: int
    needs_bytes: int  # the limit from which on it fits


class FleetError(HubError):
    """The ladder of this model has no room for the demo's devices."""


def has_llama_cpp() -> bool:
    """Return whether a device of the demo can compute with llama.cpp."""
    return find_spec("llama_cpp") is not None


def read_ladder(
    model: Path, job: Mapping[str, Any], state: Path, more: Mapping[str, str] | None = None
) -> list[Line]:
    """Ask the agent for the model's ladder on this machine, with the threads of a device.

    Args:
        model: the base's folder.
        job: the demo's job file, as a dictionary.
        state: a state folder for the agent that is asked.
        more: of its environment, such as `NO_TORCH`.

    Raises:
        FleetError: the agent could not plan.
    """
    lora, local = job["lora"], job["local"]
    options = {
        "--model": model,
        "--memory": "1000GB",
        "--method": job["method"],
        "--rank": lora["rank"],
        "--min-rank": lora["min_rank"],
        "--batch": local["batch"],
        "--min-batch": local["min_batch"],
        "--seq-len": local["seq_len"],
        "--min-seq-len": local["min_seq_len"],
        "--prompt-tokens": job["prompt"]["tokens"],
        "--threads": THREADS,
        "--state": state,
    }
    command = [command_beside("lorikeet-agent"), "plan", "--json"]
    for name, value in options.items():
        command += [name, str(value)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | dict(more or {})
    )
    if done.returncode != 0:
        raise FleetError(f"lorikeet-agent plan failed: {done.stderr.strip()}")
    return msgspec.convert(json.loads(done.stdout)["rungs"], list[Line], strict=False)


def command_beside(name: str) -> str:
    """Return the path of one of our commands: the one that was installed beside this Python."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.is_file() else name


def choose_limits(ladder: list[Line]) -> list[int]:
    """Return six limits, in bytes: the best LoRA, three of lower rank, prompt, inference.

    Raises:
        FleetError: a role is missing, or a rung needs no less memory than a better one.
    """
    best = next((index for index, line in enumerate(ladder) if line.role == "lora"), None)
    if best is None:
        raise FleetError("the ladder has no LoRA rung; the demo's job must allow all roles.")
    top = ladder[best].rank
    lower = _widest(ladder, lambda line: line.role == "lora" and line.rank < top)
    prompt = _widest(ladder, lambda line: line.role == "prompt")
    infer = _widest(ladder, lambda line: line.role == "infer")
    return [_limit(ladder, index) for index in (best, lower, lower, lower, prompt, infer)]


def engine_limit(ladder: list[Line]) -> int:
    """Return the limit of a device without torch, in bytes: its first line fits well.

    Raises:
        FleetError: it has no part in the demo's job.
    """
    line = next((line for line in ladder if line.role == "infer"), None)
    if line is None:
        raise FleetError("a device without torch has no part in the demo's job.")
    return int(line.needs_bytes * HEADROOM)


def _widest(ladder: list[Line], wanted: Callable[[Line], bool]) -> int:
    """Return the wanted line that a device takes over the widest range of limits."""
    ranges = {
        index: min((better.needs_bytes for better in ladder[:index]), default=0) - line.needs_bytes
        for index, line in enumerate(ladder)
        if wanted(line)
    }
    if not ranges:
        raise FleetError("the ladder lacks a role; the demo's job must allow all of them.")
    index = max(ranges, key=lambda one: ranges[one])
    if ranges[index] <= 0:
        raise FleetError(
            f"rung {ladder[index].rung} needs no less memory than a better one; give the demo a "
            "model whose activations weigh more."
        )
    return index


def _limit(ladder: list[Line], index: int) -> int:
    """Return a limit with which a device takes this line: none above it may fit."""
    needed = ladder[index].needs_bytes
    better = min((line.needs_bytes for line in ladder[:index]), default=needed * 2)
    return int(min(needed * HEADROOM, needed + INTO_THE_GAP * (better - needed)))
