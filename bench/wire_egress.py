"""The hub's egress on slice topics: one adapter of 5 MB to 2, 8 and 32 devices.

Counted twice: by a subscriber beside the broker, which gets each chunk once, as the hub sent it;
and on the hub's own cable, where everything else that it says to its devices passes, too.
"""

import queue
import time
from pathlib import Path

import msgspec

from bench.light_device import LightDevice
from bench.network import Network, Port
from bench.report import BenchError, Row, checked, say, told
from bench.stand import FLEET, Stand
from wire.link import Connected, Link, LinkEvent, Received
from wire.topics import Topics

_FLEETS = (2, 8, 32)
_RANK = 122  # 122 x 10,240 numbers of four bytes: 5.0 MB
_ADAPTERS = 2  # the start, and the one after the only round
_MUST_PERCENT = 10.0
_JOB_S = 300.0
_QUIET_S = 2.0


class _Egress(msgspec.Struct, frozen=True):
    """What one job with one fleet cost the hub."""

    slice_bytes: int  # topics and payloads
    cable_bytes: int
    heard_bytes: list[int]  # by each device


class SliceCounter:
    """Counts what is published on slice topics; a context manager.

    Args:
        broker_url: of the broker to listen at.
    """

    def __init__(self, broker_url: str) -> None:
        self._events: queue.SimpleQueue[LinkEvent] = queue.SimpleQueue()
        self._link = Link(broker_url, "slice-counter", self._events.put)
        self._link.subscribe(Topics(FLEET).slice_chunk())
        self.count_bytes = 0
        self.there = False

    def __enter__(self) -> "SliceCounter":
        self._link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def look(self) -> int:
        """Count what came since the last look; return all of it, in bytes."""
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, Received):
                self.count_bytes += len(event.topic) + len(event.payload)
            self.there = self.there or isinstance(event, Connected)
        return self.count_bytes


def egress_rows(folder: Path, base: Path, *, quick: bool) -> list[Row]:
    """Return the hub's egress for each fleet, and how far they are apart.

    Args:
        folder: for state and logs.
        base: the small base.
        quick: leave out the middle fleet.
    """
    fleets = (_FLEETS[0], _FLEETS[-1]) if quick else _FLEETS
    found = {count: _measure(folder / f"fleet-{count}", base, count) for count in fleets}
    rows = []
    for count, egress in found.items():
        per_adapter = egress.slice_bytes / _ADAPTERS / 1e6
        rows += [
            told(f"{count} devices: hub's slice bytes for one adapter", per_adapter, "MB"),
            told(
                f"{count} devices: all that left the hub, in the job",
                egress.cable_bytes / 1e6,
                "MB",
            ),
            checked(
                f"{count} devices: each heard all that was broadcast",
                "all" if min(egress.heard_bytes) == max(egress.heard_bytes) else "not all",
                "",
                "all",
                min(egress.heard_bytes) == max(egress.heard_bytes) > 0,
            ),
        ]
    sizes = [egress.slice_bytes for egress in found.values()]
    apart = (max(sizes) / min(sizes) - 1.0) * 100.0
    names = ", ".join(str(count) for count in fleets)
    rows.append(
        checked(
            f"hub's slice bytes for {names} devices: greatest over least",
            apart,
            "%",
            f"<= {_MUST_PERCENT:g}",
            apart <= _MUST_PERCENT,
        )
    )
    return rows


def _measure(folder: Path, base: Path, count: int) -> _Egress:
    with Network() as network:
        hub = network.plug()
        with Stand(folder, network.place(hub)) as stand, SliceCounter(stand.broker_url) as counter:
            stand.wait_for("the counter", lambda: counter.look() >= 0 and counter.there)
            fleet = [
                LightDevice(stand.broker_url, FLEET, f"light-{n:02}", _RANK, listens=True)
                for n in range(count)
            ]
            for device in fleet:
                device.start()
            try:
                stand.wait_for("all light devices", lambda: stand.ready_devices() == count)
                before = hub.traffic()
                stand.run_job(_job(base, count), _JOB_S)
                _until_quiet(stand, hub, counter)
                egress = _Egress(
                    counter.look(),
                    hub.traffic().since(before).up_bytes,
                    [device.heard_bytes for device in fleet],
                )
            except BenchError as error:
                problems = [device.problem for device in fleet if device.problem]
                raise BenchError(f"{error} {'; '.join(problems)}") from error
            finally:
                for device in fleet:
                    device.stop()
    say(f"{count} devices: {egress.slice_bytes} bytes on slice topics, {egress.cable_bytes} in all")
    if egress.slice_bytes == 0:
        raise BenchError("nothing came on slice topics.")
    return egress


def _until_quiet(stand: Stand, hub: Port, counter: SliceCounter) -> None:
    """Wait until the broadcast is over: two seconds in which nothing of size left the hub."""
    last = [time.monotonic(), hub.traffic().up_bytes]

    def quiet() -> bool:
        counter.look()
        sent = hub.traffic().up_bytes
        if sent - last[1] > 10_000:
            last[:] = [time.monotonic(), sent]
        return time.monotonic() - last[0] > _QUIET_S

    stand.wait_for("the broadcast's end", quiet)


def _job(base: Path, devices: int) -> dict[str, object]:
    return {
        "job": "egress",
        "model": {"base": str(base)},
        "lora": {"rank": _RANK},
        "rounds": 1,
        "cohort": {"min": devices, "max": devices},
        "deadline_s": 240,
        "local": {"steps": 5, "batch": 4, "seq_len": 128, "lr": 0.003},
        "codec": "raw",
        "seed": 7,
    }
