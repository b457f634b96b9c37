"""``lorikeet-agent plan``: the ladder of a model on this device."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.calibrate import calibration_of
from edge_agent.model_shape import model_shape
from edge_agent.planner import choose, ladder, local_ladder, needed_bytes
from edge_agent.probe.memory import MemoryLimit, memory_limit
from edge_agent.runtimes import chosen_runtime
from wire.messages import JobKnobs, RungPlan

#: In place of a hub's method: every rung there is, as for `lorikeet-agent train`.
LOCAL = "local"


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``plan`` was asked for."""

    model: Path
    knobs: JobKnobs
    memory_bytes: int | None
    threads: int
    state: Path
    every: bool
    recalibrate: bool
    as_json: bool


def show_plan(options: PlanOptions) -> None:
    """Print the ladder.

    Raises:
        ModelError: the model can't be used.
        AgentError: this device could not be measured.
    """
    shape = model_shape(options.model)
    limit = memory_limit(options.memory_bytes)
    # What takes some seconds is told on standard error.
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    calibration = calibration_of(
        options.state,
        options.threads,
        limit.limit_bytes,
        again=options.recalibrate,
        runtime=chosen_runtime(),
    )
    plan = local_ladder if options.knobs.method == LOCAL else ladder
    lines = plan(shape, options.knobs, limit.limit_bytes, calibration)
    chosen = choose(lines)
    if options.as_json:
        document = {
            "limit_bytes": limit.limit_bytes,
            "limit_reason": limit.reason,
            "chosen": _told(chosen),
            "rungs": [_told(line) for line in lines],
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _print_table(limit, lines if options.every else _in_short(lines), chosen)


def _told(line: RungPlan) -> dict[str, Any]:
    """Return a line as JSON has it, with the limit from which on it fits."""
    told: dict[str, Any] = msgspec.to_builtins(line)
    return told | {"needs_bytes": needed_bytes(line.predicted_peak_bytes)}


def _in_short(lines: list[RungPlan]) -> list[RungPlan]:
    """Return each rung's first line, and its first one that fits."""
    shown: list[RungPlan] = []
    for rung in dict.fromkeys(line.rung for line in lines):
        of_rung = [line for line in lines if line.rung == rung]
        shown.append(of_rung[0])
        fitting = next((line for line in of_rung if line.fits), of_rung[-1])
        if fitting is not of_rung[0]:
            shown.append(fitting)
    return shown


def _print_table(limit: MemoryLimit, lines: list[RungPlan], chosen: RungPlan) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = escape(f"limit {limit.limit_bytes / 1e6:.0f} MB ({limit.reason})")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in ("role", "rung", "rank", "batch", "tokens", "peak", "s/step", "up", "down", "fits"):
        table.add_column(name, justify="left" if name in ("role", "rung", "fits") else "right")
    for line in lines:
        table.add_row(*_cells(line), style="bold" if line == chosen else "")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(f"takes {chosen.reason}", highlight=False, markup=False)


def _cells(line: RungPlan) -> list[str]:
    trains = line.role in ("lora", "prompt", "full")
    missing = f"{line.missing_bytes / 1e6:.0f} MB short"
    values: dict[str, Any] = {
        "rank": line.rank or "–",
        "batch": line.batch,
        "tokens": line.seq_len,
        "peak": f"{line.predicted_peak_bytes / 1e6:.0f} MB",
        "s/step": "–" if line.step_s is None or not trains else f"{line.step_s:.3g}",
        "up": f"{line.bytes_up / 1e6:.3g} MB" if trains else "–",
        "down": f"{line.bytes_down / 1e6:.3g} MB",
        "fits": "yes" if line.fits else missing,
    }
    return [line.role, line.rung, *(str(value) for value in values.values())]
