"""An idle device: what it costs on the wire, and how soon its death is seen."""

import time
from pathlib import Path

from bench.network import Network, Traffic
from bench.real_agent import agent_command
from bench.report import Row, at_most, say, told
from bench.stand import Stand
from hub.demo.texts import PACKAGES, write_text

_SETTLE_S = 15.0
_WATCH_S = 240.0
_QUICK_WATCH_S = 120.0
_MUST_UP_BYTES, _MUST_DOWN_BYTES = 1_000.0, 500.0
_MUST_SEEN_S = 90.0
_PATIENCE_S = 300.0
#: Issue 4, Flower 1.42: bytes a minute of one idle device, up and down.
_FLOWER = (24_500, 6_350)


def idle_link_rows(folder: Path, *, quick: bool) -> list[Row]:
    """Return an idle device's bytes a minute, and the seconds until its death is seen.

    Args:
        folder: for state and logs.
        quick: watch for two minutes instead of four.
    """
    watch_s = _QUICK_WATCH_S if quick else _WATCH_S
    text = write_text(folder, PACKAGES[0], 150_000)
    with Network() as network:
        hub, port = network.plug(), network.plug()
        with Stand(folder / "stand", network.place(hub)) as stand:
            command = agent_command(stand.broker_url, "idle", text.path, folder / "state")
            pid = stand.start("agent", port.namespace.command(command))
            stand.wait_for("the agent", lambda: stand.ready_devices() == 1)
            time.sleep(_SETTLE_S)
            say(f"watching an idle device for {watch_s:.0f} s")
            before = port.traffic()
            time.sleep(watch_s)
            passed = port.traffic().since(before)
            stand.kill(pid)
            killed_s = _until_lost(stand)
            stand.start("agent-again", port.namespace.command(command))
            stand.wait_for("the agent again", lambda: stand.ready_devices() == 1)
            time.sleep(_SETTLE_S)
            port.unplug()
            unplugged_s = _until_lost(stand)
    minutes = watch_s / 60.0
    unit = "bytes"
    return [
        at_most("idle, a minute, up", passed.up_bytes / minutes, unit, _MUST_UP_BYTES),
        told("idle, a minute, up, Flower 1.42 (quoted from issue 4)", _FLOWER[0], unit),
        at_most("idle, a minute, down", passed.down_bytes / minutes, unit, _MUST_DOWN_BYTES),
        told("idle, a minute, down, Flower 1.42 (quoted from issue 4)", _FLOWER[1], unit),
        told("idle, frames a minute, up and down", _frames(passed, minutes)),
        told("killed with -9: lost after", killed_s, "s"),
        at_most("unplugged: lost after", unplugged_s, "s", _MUST_SEEN_S),
    ]


def _frames(passed: Traffic, minutes: float) -> str:
    return f"{passed.up_frames / minutes:g}, {passed.down_frames / minutes:g}"


def _until_lost(stand: Stand) -> float:
    """Return the seconds until the hub's list of devices says that the only one is lost."""
    began = time.monotonic()
    stand.wait_for(
        "the hub to see it",
        lambda: [one.state for one in stand.client.devices()] == ["lost"],
        _PATIENCE_S,
    )
    return time.monotonic() - began
