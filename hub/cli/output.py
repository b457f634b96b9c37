"""How verbs print: one JSON document, or lines and tables for people."""

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from hub.api.control import Member

_PIPED_COLUMNS = 160  # where nobody's window sets the width


def print_json(value: Any) -> None:
    """Print the one JSON document of a verb that was given ``--json``."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """Print a line for people."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: list[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table for people; None is shown as a dash."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS)
    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not markup: a device's reason may hold brackets.
        table.add_row(*(Text("–" if cell is None else printable(str(cell))) for cell in row))
    console.print(table)


def printable(text: str) -> str:
    """Return text without control characters: a device must not steer the terminal."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def updates(members: "list[Member]") -> str:
    """Return how many of those that train have delivered."""
    # A device that infers may train, too, without backprop; then it was given steps.
    training = [one for one in members if one.role not in ("infer", "none") or one.steps]
    delivered = sum(member.update_bytes > 0 for member in training)
    return f"{delivered} of {len(training)}"


def loss(value: float | None) -> str | None:
    """Return a loss with four digits after the point."""
    return None if value is None else f"{value:.4f}"


def size(value_bytes: int | None) -> str | None:
    """Return a number of bytes in the decimal unit that suits it."""
    if value_bytes is None:
        return None
    value = float(value_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def age(ts: float) -> str | None:
    """Return how long ago a Unix time was; None for one that was never set."""
    if ts <= 0:
        return None
    seconds = max(0, int(time.time() - ts))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
