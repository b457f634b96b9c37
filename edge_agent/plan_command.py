"""``lorikeet-agent plan``: the ladder of a model on this device."""

import json
import sys
from pathlib import Path
from typing import Any

from edge_agent.errors import ModelError
from edge_agent.measure import runtime_bytes
from edge_agent.planner import choose, ladder
from edge_agent.probe.machine import cores
from edge_agent.probe.memory import MemoryLimit, memory_limit
from wire.errors import MalformedError
from wire.messages import JobKnobs, RungPlan
from wire.shape import shape_of

_WEIGHT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def show_plan(model: Path, knobs: JobKnobs, memory_bytes: int | None, *, as_json: bool) -> None:
    """Print the ladder.

    Raises:
        ModelError: the folder has no usable ``config.json``.
    """
    config = _config(model)
    weight_bytes = _WEIGHT_BYTES.get(str(config.get("dtype", config.get("torch_dtype"))), 4)
    try:
        shape = shape_of(config, weight_bytes)
    except MalformedError as error:
        raise ModelError(f"{model / 'config.json'}: {error}") from error
    limit = memory_limit(memory_bytes)
    lines = ladder(shape, knobs, limit.limit_bytes, runtime_bytes(int(cores())))
    chosen = choose(lines)
    if as_json:
        document = {
            "limit_bytes": limit.limit_bytes,
            "limit_reason": limit.reason,
            "chosen": _line(chosen),
            "rungs": [_line(line) for line in lines],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _print_table(limit, lines, chosen)


def _config(model: Path) -> dict[str, Any]:
    file = model / "config.json" if model.is_dir() else model
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"--model is {model}; no readable config.json there: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"--model is {model}; its config.json is no JSON object.")
    return config


def _line(plan: RungPlan) -> dict[str, Any]:
    return {
        "role": plan.role,
        "rung": plan.rung,
        "rank": plan.rank,
        "batch": plan.batch,
        "seq_len": plan.seq_len,
        "predicted_peak_bytes": plan.predicted_peak_bytes,
        "fits": plan.fits,
        "missing_bytes": plan.missing_bytes,
        "reason": plan.reason,
    }


def _print_table(limit: MemoryLimit, lines: list[RungPlan], chosen: RungPlan) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"limit {limit.limit_bytes / 1e6:.0f} MB ({limit.reason})")
    for name in ("role", "rung", "rank", "batch", "tokens", "predicted peak", "fits"):
        table.add_column(name)
    for line in lines:
        missing = f"no, {line.missing_bytes / 1e6:.0f} MB short"
        table.add_row(
            line.role,
            line.rung,
            str(line.rank or "–"),
            str(line.batch),
            str(line.seq_len),
            f"{line.predicted_peak_bytes / 1e6:.0f} MB",
            "yes" if line.fits else missing,
            style="bold" if line == chosen else "",
        )
    console = Console()
    console.print(table)
    console.print(f"takes: {chosen.reason}", highlight=False)
