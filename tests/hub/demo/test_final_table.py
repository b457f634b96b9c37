import io
from collections.abc import Callable
from typing import Any

from rich.console import Console

from hub.demo.final_table import final_table
from hub.demo.summary import fall

Make = Callable[..., dict[str, Any]]


def shown(summary: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(final_table(summary))
    return out.getvalue()


def test_the_table_tells_roles_losses_memory_and_bytes(run: Make) -> None:
    text = shown(run())

    assert "held-out loss 2.500 → 2.000 (−20.0 %)" in text
    assert "2 rounds in 1 min 58 s, seed 7, mosquitto, hub's peak 143 MiB" in text
    row = next(line for line in text.splitlines() if "pi-1" in line)
    for words in ("LoRA r8", "resident", "2.500", "450 MiB / 500 MiB", "610 kB", "4.30 MB"):
        assert words in row


def test_what_is_unknown_is_a_dash_and_brackets_are_no_markup(run: Make, device: Make) -> None:
    one = device(id="[red]x", loss_before=None, loss_after=None, peak_bytes=None)
    row = next(line for line in shown(run(devices=[one])).splitlines() if "[red]x" in line)

    assert "– / 500 MiB" in row


def test_the_fall_of_a_loss_is_relative() -> None:
    assert fall(2.0, 1.5) == -0.25
    assert fall(None, 1.0) is None
    assert fall(0.0, 1.0) is None
