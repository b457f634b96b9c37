"""The demo's progress: a live table on a terminal, one line for each change when piped."""

from collections.abc import Iterator
from typing import Protocol

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_LEVELS = "▁▂▃▄▅▆▇█"
_STATE_STYLE = {
    "ready": "green",
    "init": "yellow",
    "sleeping": "yellow",
    "alert": "red",
    "disconnected": "dim",
    "lost": "red",
}


class DeviceRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo shows of one device."""

    id: str
    role: str = ""  # lora, prompt, infer; empty until it has said
    rung: str = ""
    rank: int = 0
    state: str = "init"
    stage: str = ""  # fetch, evaluate, train, upload; accepted once its update is
    step: int = 0
    steps: int = 0
    loss: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    reason: str = ""  # why it has this role


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the demo shows at one moment."""

    phase: str
    round: int
    rounds: int
    elapsed_s: float
    devices: list[DeviceRow] = []
    base_loss: float | None = None
    heldout_loss: list[float] = []
    worst_tenth: float | None = None  # of the round that was measured last
    spread: float | None = None
    note: str = ""


class View(Protocol):
    """Where snapshots go."""

    def update(self, snapshot: Snapshot) -> None:
        """Show the present state."""

    def close(self) -> None:
        """Stop drawing; what was shown stays."""


def make_view(console: Console) -> View:
    """Return a live view on a terminal, otherwise plain lines."""
    return LiveView(console) if console.is_terminal else PlainView(console)


class LiveView:
    """Redraws a panel in place, at most four times a second."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=True, refresh_per_second=4)
        self._started = False

    def update(self, snapshot: Snapshot) -> None:
        """Show the present state."""
        self._live.update(panel(snapshot))
        if not self._started:
            self._started = True
            self._live.start(refresh=True)

    def close(self) -> None:
        """Leave the last picture on the screen."""
        if self._started:
            self._live.stop()


class PlainView:
    """Writes a line for each change that matters; a step or a byte more is none."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = Snapshot(phase="", round=0, rounds=0, elapsed_s=0.0)

    def update(self, snapshot: Snapshot) -> None:
        """Write what changed since the last snapshot."""
        for line in changes(self._last, snapshot):
            text = Text(f"{clock(snapshot.elapsed_s)}  {line}")
            self._console.print(text, soft_wrap=True)
        self._last = snapshot

    def close(self) -> None:
        """Nothing is left to write."""


def changes(before: Snapshot, now: Snapshot) -> Iterator[str]:
    """Say in words what changed between two snapshots, in the order in which it happens."""
    if now.note and now.note != before.note:
        yield now.note
    known = {row.id: row for row in before.devices}
    for row in now.devices:
        yield from _device_changes(known.get(row.id, DeviceRow(id=row.id)), row, now.round)
    if now.base_loss is not None and before.base_loss is None:
        yield f"base: held-out loss {now.base_loss:.4f}"
    for number in range(len(before.heldout_loss) + 1, len(now.heldout_loss) + 1):
        loss = now.heldout_loss[number - 1]
        yield f"round {number}/{now.rounds} published: held-out loss {_fall(loss, now.base_loss)}"
    if now.round != before.round and now.round > 0:
        yield f"round {now.round}/{now.rounds} opened"
    if now.phase != before.phase and now.phase in ("done", "failed", "cancelled"):
        yield f"job {now.phase}"


def _device_changes(before: DeviceRow, now: DeviceRow, number: int) -> Iterator[str]:
    if now.role and (now.role, now.rung, now.rank) != (before.role, before.rung, before.rank):
        why = f": {now.reason}" if now.reason else ""
        yield f"{now.id} {now.state} as {role_words(now)}{why}"
    elif now.state != before.state:
        yield f"{now.id} {now.state}"
    if now.stage == "accepted" and before.stage != "accepted":
        loss = f", training loss {now.loss:.4f}" if now.loss is not None else ""
        yield f"round {number}: update of {now.id} accepted{loss}"


def panel(snapshot: Snapshot) -> Panel:
    """Return the live picture: the rounds, the devices, the loss so far."""
    parts: list[Table | Text] = [_rounds_line(snapshot), _devices_table(snapshot)]
    if snapshot.heldout_loss or snapshot.base_loss is not None:
        parts.append(_loss_line(snapshot))
    if snapshot.note:
        parts.append(Text(snapshot.note, style="dim"))
    return Panel(Group(*parts), title="lorikeet demo", title_align="left", border_style="cyan")


def _rounds_line(snapshot: Snapshot) -> Table:
    finished = len(snapshot.heldout_loss)
    line = Table.grid(padding=(0, 2), expand=True)
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    line.add_column(no_wrap=True)
    line.add_column(no_wrap=True, justify="right")
    line.add_row(
        Text(f"round {snapshot.round}/{snapshot.rounds}", style="bold"),
        ProgressBar(total=max(snapshot.rounds, 1), completed=finished),
        Text(snapshot.phase, style="cyan"),
        Text(clock(snapshot.elapsed_s)),
    )
    return line


def _devices_table(snapshot: Snapshot) -> Table:
    table = Table(box=None, expand=True, header_style="dim", pad_edge=False)
    for name in ("device", "role", "rung", "state", "step"):
        table.add_column(name, no_wrap=True)
    for name in ("loss", "up", "down"):
        table.add_column(name, no_wrap=True, justify="right")
    for row in snapshot.devices:
        doing = row.stage or row.state
        table.add_row(
            escape(row.id),
            Text(f"{row.role} r{row.rank}" if row.rank else row.role or "–", style="bold"),
            escape(row.rung) or "–",
            Text(doing, style="cyan" if row.stage else _STATE_STYLE.get(row.state, "")),
            f"{row.step}/{row.steps}" if row.steps else "",
            f"{row.loss:.3f}" if row.loss is not None else "",
            size_words(row.bytes_up),
            size_words(row.bytes_down),
        )
    return table


def _loss_line(snapshot: Snapshot) -> Text:
    losses = [loss for loss in (snapshot.base_loss, *snapshot.heldout_loss) if loss is not None]
    line = Text("held-out loss ", style="dim")
    line.append(sparkline(losses), style="cyan")
    line.append(f" {_fall(losses[-1], snapshot.base_loss)}", style="bold")
    if snapshot.worst_tenth is not None:
        line.append(f", worst tenth {snapshot.worst_tenth:.4f}", style="dim")
    if snapshot.spread is not None:
        line.append(f", spread {snapshot.spread:.4f}", style="dim")
    return line


def _fall(loss: float, base: float | None) -> str:
    return f"{loss:.4f} ({loss / base - 1:+.1%} to the base)" if base else f"{loss:.4f}"


def sparkline(values: list[float]) -> str:
    """Return a bar of eight possible heights for each value; the least one has the lowest."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_LEVELS[round((value - low) / span * 7)] for value in values)


def role_words(row: DeviceRow) -> str:
    """Return role, rank and rung in words: ``lora rank 8, resident``."""
    rank = f" rank {row.rank}" if row.rank else ""
    rung = f", {row.rung}" if row.rung and row.rung != row.role else ""
    return f"{row.role}{rank}{rung}"


def size_words(size_bytes: int) -> str:
    """Return a size in kB or MB (powers of ten), as links are measured."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    if size_bytes < 999_500:
        return f"{size_bytes / 1000:.0f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"


def clock(elapsed_s: float) -> str:
    """Return minutes and seconds: ``1:05``."""
    return f"{int(elapsed_s) // 60}:{int(elapsed_s) % 60:02d}"
