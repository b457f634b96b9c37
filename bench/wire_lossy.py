"""A bad link: 1 Mbit/s, 200 ms there and back, 5 % of packets lost each way.

A real agent behind the link uploads an update of 1 MB; the time is the one that its result tells
the hub, from the first request to the answer that the whole is verified and on disk. In turns
with it as many bytes are copied by plain TCP over the same link. Model, adapter and evaluation
pass while the link is perfect: it is made bad when the device has taken its task.

Both use the kernel's own congestion control. Where that isn't Reno, all is measured with Reno once
more: it takes each loss for congestion, as most kernels' does (of those only Reno may be chosen in
a network namespace everywhere).
"""

import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from bench.bad_link import BadLink
from bench.network import EXCHANGE, Namespace, Network
from bench.open_broker import OpenBroker
from bench.raw_copy import CopyServer
from bench.real_agent import agent_command
from bench.report import BenchError, Row, at_most, say, told
from bench.stand import Place, Stand
from hub.api.control import ENDED
from hub.demo.texts import PACKAGES, write_text

_DEVICE_ADDRESS = "10.78.0.2"
_RANK = 25  # 25 x 10,240 numbers of four bytes: 1.02 MB
_SIZE_BYTES = _RANK * 10_240 * 4
_PAIRS = 5
_MUST = 1.2
_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_RENO = "reno"
_UPLOAD_S = 900.0
_COPY_S = 900.0


def lossy_rows(folder: Path, base: Path, *, quick: bool) -> list[Row]:
    """Return the agent's upload over a raw TCP copy on the same link, and both times.

    Args:
        folder: for state and logs.
        base: the small base.
        quick: two pairs instead of five, and the kernel's own congestion control only.
    """
    text = write_text(folder, PACKAGES[0], 150_000).path
    own = _CONTROL.read_text().strip() if _CONTROL.exists() else _RENO
    controls = [own] if quick or own == _RENO else [own, _RENO]
    rows = []
    for control in controls:
        pairs = _measure(folder / control, base, text, control, 2 if quick else _PAIRS)
        rows += _pair_rows(control, pairs)
    return rows


def _pair_rows(control: str, pairs: list[tuple[float, float]]) -> list[Row]:
    ratios = [ours / raw for ours, raw in pairs]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    ours_s, raw_s = (statistics.median(times) for times in zip(*pairs, strict=True))
    return [
        told(f"1 MB over a bad link, {control}, agent to hub: median", ours_s, "s"),
        told(f"the same, {control}, raw TCP: median", raw_s, "s"),
        told(f"upload over raw TCP, {control}: {len(pairs)} pairs, all", spread, "x"),
        at_most(
            f"upload over raw TCP, {control}: median of the pairs",
            statistics.median(ratios),
            "x",
            _MUST,
        ),
    ]


def _measure(
    folder: Path, base: Path, text: Path, control: str, count: int
) -> list[tuple[float, float]]:
    """Return the seconds of the agent's upload and of the raw copy, for each pair."""
    pairs = []
    with Network() as network, closing(Namespace()) as device:
        # Before any connection: each keeps what it began with.
        for namespace in (network.exchange, device):
            namespace.set("ipv4/tcp_congestion_control", control)
        # What one connection learnt of the link must not help the next.
        device.set("ipv4/tcp_no_metrics_save", "1")
        place = Place(lambda path: OpenBroker(path, EXCHANGE), hub_host=EXCHANGE)
        with (
            BadLink((network.exchange, EXCHANGE), (device, _DEVICE_ADDRESS)) as link,
            Stand(folder / "stand", place) as stand,
            CopyServer(EXCHANGE, _SIZE_BYTES) as server,
        ):
            command = agent_command(stand.broker_url, "far", text, folder / "state")
            stand.start("agent", device.command(command))
            stand.wait_for("the agent", lambda: stand.ready_devices() == 1)
            for pair in range(count):
                # Who goes first changes from pair to pair.
                raw_s = _raw_s(link, device, server.port, pair) if pair % 2 == 0 else None
                ours_s = _upload_s(link, stand, base, pair)
                if raw_s is None:
                    raw_s = _raw_s(link, device, server.port, pair)
                pairs.append((ours_s, raw_s))
                say(f"{control}, pair {pair}: upload {ours_s:.1f} s, raw TCP {raw_s:.1f} s")
    return pairs


def _raw_s(link: BadLink, device: Namespace, port: int, seed: int) -> float:
    """Return the seconds of a raw TCP copy over the bad link."""
    words = [sys.executable, "-m", "bench.raw_copy", EXCHANGE, str(port), str(_SIZE_BYTES)]
    link.bad(seed)
    try:
        done = subprocess.run(
            [str(word) for word in device.command(words)],
            capture_output=True, text=True, check=False, timeout=_COPY_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"a raw copy took more than {_COPY_S:.0f} s.") from error
    finally:
        link.good()
    if done.returncode != 0:
        raise BenchError(f"a raw copy failed: {done.stderr[-300:]}")
    return float(done.stdout)


def _upload_s(link: BadLink, stand: Stand, base: Path, seed: int) -> float:
    """Return the seconds of an agent's upload over the bad link."""
    name = f"pair-{seed}"
    stand.client.submit(yaml.safe_dump(_job(name, base), sort_keys=False))
    stand.wait_for("the device to take its task", lambda: _events(stand, name, "Taken") != [])
    link.bad(seed)
    try:
        stand.wait_for(
            "the upload", lambda: _events(stand, name, "UpdateAccepted") != [], _UPLOAD_S
        )
    finally:
        link.good()
    stand.wait_for("the job's end", lambda: stand.client.job(name).summary.phase in ENDED, 300.0)
    time.sleep(1.0)  # what was on its way is gone by then
    accepted = _events(stand, name, "UpdateAccepted")[0]
    if accepted["size_bytes"] < _SIZE_BYTES:
        raise BenchError(f"the update has {accepted['size_bytes']} bytes, not {_SIZE_BYTES}.")
    return float(accepted["upload_s"])


def _events(stand: Stand, job: str, kind: str) -> list[dict[str, Any]]:
    return [event.data for event in stand.client.events(job) if event.kind == kind]


def _job(name: str, base: Path) -> dict[str, object]:
    return {
        "job": name,
        "model": {"base": str(base)},
        "lora": {"rank": _RANK, "min_rank": _RANK},
        "rounds": 1,
        "cohort": {"min": 1, "max": 1},
        "deadline_s": 1200,
        "local": {"steps": 20, "batch": 4, "min_batch": 4, "seq_len": 256, "min_seq_len": 256},
        "codec": "raw",
        "seed": 7,
    }
