"""The table that a demo run ends with on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from hub.demo import numbers
from hub.demo.charts import role_words
from hub.demo.summary import fall, parse

_ROLE_STYLE = {"lora": "cyan", "prompt": "yellow", "infer": "magenta"}


def final_table(summary: Mapping[str, Any]) -> Table:
    """Return each device's role, loss, memory and traffic, and the run's own numbers below.

    Raises:
        msgspec.ValidationError: the summary lacks a field or has one of a wrong type.
    """
    run = parse(summary)
    last = run.heldout_loss[-1] if run.heldout_loss else None
    change = numbers.percent(fall(run.base_loss, last))
    table = Table(
        title=f"held-out loss {numbers.loss(run.base_loss)} → {numbers.loss(last)} ({change})",
        title_style="bold",
        title_justify="left",
        caption=(
            f"{run.rounds} rounds in {numbers.duration(run.seconds)}, seed {run.seed}, "
            f"{run.broker or 'own broker'}, hub's peak {numbers.memory(run.hub.peak_bytes)}"
        ),
        caption_justify="left",
    )
    table.add_column("device", no_wrap=True)
    table.add_column("role", no_wrap=True)
    table.add_column("rung")
    for name in ("before", "after", "change", "peak / limit", "up", "down"):
        table.add_column(name, justify="right", no_wrap=True)
    for device in run.devices:
        shrunk = fall(device.loss_before, device.loss_after)
        limit = numbers.memory(device.memory_limit_bytes)
        table.add_row(
            Text(device.id),
            Text(role_words(device.role, device.rank), style=_ROLE_STYLE.get(device.role, "dim")),
            Text(device.rung),
            numbers.loss(device.loss_before),
            numbers.loss(device.loss_after),
            Text(numbers.percent(shrunk), style="green" if (shrunk or 0) < 0 else "red"),
            f"{numbers.memory(device.peak_bytes)} / {limit}",
            numbers.transfer(device.bytes_up),
            numbers.transfer(device.bytes_down),
        )
    return table
