import io

import msgspec
import pytest
from rich.console import Console

from hub.demo.view import (
    DeviceRow,
    LiveView,
    PlainView,
    Snapshot,
    changes,
    clock,
    make_view,
    size_words,
    sparkline,
)

READY = DeviceRow(
    id="pi-1",
    role="lora",
    rung="resident",
    rank=8,
    state="ready",
    reason="needs 410 MB of 500 MB",
)
TRAINING = DeviceRow(
    id="pi-1",
    role="lora",
    rung="resident",
    rank=8,
    state="ready",
    stage="train",
    step=3,
    steps=10,
    loss=2.31,
    bytes_up=1500,
    bytes_down=2_500_000,
)
ACCEPTED = DeviceRow(
    id="pi-1", role="lora", rung="resident", rank=8, state="ready", stage="accepted", loss=2.3
)


def snap(
    *devices: DeviceRow,
    phase: str = "training",
    number: int = 1,
    losses: tuple[float, ...] = (),
    base: float | None = None,
    note: str = "",
    elapsed_s: float = 65.0,
) -> Snapshot:
    return Snapshot(
        phase=phase,
        round=number,
        rounds=5,
        elapsed_s=elapsed_s,
        devices=list(devices),
        base_loss=base,
        heldout_loss=list(losses),
        note=note,
    )


def plain(*snapshots: Snapshot) -> list[str]:
    out = io.StringIO()
    view = PlainView(Console(file=out, width=60))
    for snapshot in snapshots:
        view.update(snapshot)
    view.close()
    return out.getvalue().splitlines()


def test_the_view_follows_the_console() -> None:
    assert isinstance(make_view(Console(file=io.StringIO(), force_terminal=True)), LiveView)
    assert isinstance(make_view(Console(file=io.StringIO())), PlainView)


def test_a_device_that_is_ready_says_role_and_why_once() -> None:
    lines = plain(snap(READY, number=0), snap(READY, number=0, elapsed_s=70.0))

    assert lines == ["1:05  pi-1 ready as lora rank 8, resident: needs 410 MB of 500 MB"]


def test_steps_and_bytes_are_no_lines() -> None:
    before = snap(READY)

    assert list(changes(before, snap(TRAINING))) == []


def test_an_accepted_update_is_a_line_in_each_round() -> None:
    lines = plain(snap(READY), snap(ACCEPTED), snap(ACCEPTED), snap(TRAINING), snap(ACCEPTED))

    assert [line for line in lines if "accepted" in line] == [
        "1:05  round 1: update of pi-1 accepted, training loss 2.3000"
    ] * 2


def test_rounds_open_publish_and_end() -> None:
    lines = plain(
        snap(number=1, base=2.5),
        snap(number=2, base=2.5, losses=(2.25,)),
        snap(number=2, base=2.5, losses=(2.25, 2.0), phase="done"),
    )

    assert lines == [
        "1:05  base: held-out loss 2.5000",
        "1:05  round 1/5 opened",
        "1:05  round 1/5 published: held-out loss 2.2500 (-10.0% to the base)",
        "1:05  round 2/5 opened",
        "1:05  round 2/5 published: held-out loss 2.0000 (-20.0% to the base)",
        "1:05  job done",
    ]


def test_a_lost_device_and_a_note_are_lines_without_markup() -> None:
    lost = DeviceRow(id="pi-1", role="lora", rung="resident", rank=8, state="lost")
    lines = plain(snap(READY), snap(lost, note="data of pi-1: 2 [broken] lines skipped"))

    assert lines[-2:] == ["1:05  data of pi-1: 2 [broken] lines skipped", "1:05  pi-1 lost"]


def test_the_live_view_shows_rounds_devices_loss_and_bytes() -> None:
    out = io.StringIO()
    view = LiveView(Console(file=out, force_terminal=True, width=100, height=30, color_system=None))
    shown_now = snap(TRAINING, number=2, base=2.5, losses=(2.25,), note="[note]")
    view.update(msgspec.structs.replace(shown_now, worst_tenth=2.75, spread=0.125))
    view.close()

    shown = out.getvalue()
    for part in (
        "round 2/5", "training", "1:05", "pi-1", "lora r8", "resident", "3/10", "2.310",
        "2 kB", "2.5 MB", "2.2500 (-10.0% to the base), worst tenth 2.7500, spread 0.1250",
        "[note]",
    ):  # fmt: skip
        assert part in shown


def test_a_live_view_that_was_never_drawn_closes_quietly() -> None:
    out = io.StringIO()
    LiveView(Console(file=out, force_terminal=True)).close()

    assert out.getvalue() == ""


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"), (999_500, "1.0 MB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert size_words(size) == words


def test_small_words() -> None:
    assert clock(125.9) == "2:05"
    assert sparkline([2.0, 1.0]) == "█▁"
    assert sparkline([1.0]) == "▁"
