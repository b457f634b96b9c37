"""Rows of a bench: a figure, its value, what it must be, and whether it is."""

import sys
from collections.abc import Sequence

import msgspec

MIB = 1024.0**2
_DIGITS = 4


class BenchError(Exception):
    """A bench could not measure what it wanted: why, and where to look."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure.

    ``ok`` is None where nothing is demanded, and where the figure wasn't measured (then ``value``
    is None, too).
    """

    figure: str
    value: float | str | None
    unit: str
    must: str
    ok: bool | None


def told(figure: str, value: float | str | None, unit: str = "") -> Row:
    """Return a row of which nothing is demanded."""
    return Row(figure=figure, value=_rounded(value), unit=unit, must="", ok=None)


def skipped(figure: str, unit: str, must: str) -> Row:
    """Return the row of a figure that wasn't measured this time."""
    return Row(
        figure=f"{figure} (not measured: --quick)", value=None, unit=unit, must=must, ok=None
    )


def failed(figure: str, must: str) -> Row:
    """Return the row of a figure whose measuring failed, which is never right."""
    return Row(figure=figure, value="failed", unit="", must=must, ok=False)


def checked(figure: str, value: float | str | None, unit: str, must: str, ok: bool) -> Row:
    """Return a row with the outcome of its caller's check; an absent value never is right."""
    return Row(
        figure=figure, value=_rounded(value), unit=unit, must=must, ok=ok and value is not None
    )


def at_most(
    figure: str, value: float | None, unit: str, limit: float, *, aim: float | None = None
) -> Row:
    """Return a row whose value must not exceed a limit; an aim beyond it has no verdict."""
    text = f"<= {_limit(limit)}" + ("" if aim is None else f" (aim {aim:g})")
    return checked(figure, value, unit, text, value is not None and value <= limit)


def at_least(
    figure: str, value: float | None, unit: str, limit: float, *, aim: float | None = None
) -> Row:
    """Return a row whose value must reach a limit; an aim beyond it has no verdict."""
    text = f">= {limit:g}" + ("" if aim is None else f" (aim {aim:g})")
    return checked(figure, value, unit, text, value is not None and value >= limit)


def below(figure: str, value: float | None, unit: str, limit: float) -> Row:
    """Return a row whose value must be less than a limit."""
    text = f"< {_limit(limit)}"
    return checked(figure, value, unit, text, value is not None and value < limit)


def above(figure: str, value: float | None, unit: str, limit: float) -> Row:
    """Return a row whose value must be more than a limit."""
    text = f"> {_limit(limit)}"
    return checked(figure, value, unit, text, value is not None and value > limit)


def fall_percent(before: float | None, after: float | None) -> float | None:
    """Return by how many percent a loss fell; negative if it rose."""
    return None if not before or after is None else (1.0 - after / before) * 100.0


def exit_code(rows: Sequence[Row]) -> int:
    """Return 1 if a demand isn't met, else 0."""
    return int(any(row.ok is False for row in rows))


def show(title: str, rows: Sequence[Row], *, as_json: bool, to_stderr: bool = False) -> None:
    """Print the rows: one JSON list, or a table for people."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows)).decode() + "\n")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("figure")
    table.add_column("value", justify="right", no_wrap=True)
    for name in ("unit", "must", "ok"):
        table.add_column(name, no_wrap=True)
    marks = {True: Text("yes", "green"), False: Text("NO", "bold red"), None: Text("–", "dim")}
    for row in rows:
        table.add_row(row.figure, value_text(row.value), row.unit, row.must, marks[row.ok])
    width = None if sys.stdout.isatty() else 120
    Console(width=width, stderr=to_stderr).print(table)


def value_text(value: float | str | None) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else _number(value)


def say(text: str) -> None:
    """Tell on standard error what goes on: standard output is for the rows."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def _limit(value: float) -> str:
    return _number(float(f"{value:.{_DIGITS}g}"))


def _number(value: float) -> str:
    """Return a number without an exponent, if it is large."""
    return f"{value:.0f}" if abs(value) >= 10**_DIGITS else f"{value:g}"


def _rounded(value: float | str | None) -> float | str | None:
    return round(value, _DIGITS) if isinstance(value, float) else value
