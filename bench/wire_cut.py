"""An upload of 5 MB that is cut at a random byte: how much of the blob is sent again.

A real agent reaches the broker through a proxy that resets the connection when the device has
sent so many bytes of its update. Every byte of the blob that crossed the link counts, those of
chunks that never got whole, too; what exceeds the blob's size was sent again.
"""

import random
from pathlib import Path
from urllib.parse import urlsplit

from bench.cutting_proxy import CuttingProxy
from bench.real_agent import agent_command
from bench.report import BenchError, Row, at_most, checked, say, told
from bench.stand import FLEET, Stand
from bench.upload_meter import UploadMeter
from hub.demo.texts import PACKAGES, write_text
from wire.topics import Topics

_DEVICE = "cut"
_RANK = 122  # 122 x 10,240 numbers of four bytes: 5.0 MB
_SEEDS = (1, 2, 3, 4, 5)
_QUICK_SEEDS = (1, 2)
_MUST_BYTES = 512 * 1024
_JOB_S = 300.0


def cut_rows(folder: Path, base: Path, *, quick: bool) -> list[Row]:
    """Return the blob bytes that were sent again, for each seed.

    Args:
        folder: for state and logs.
        base: the small base.
        quick: two seeds instead of five.
    """
    text = write_text(folder, PACKAGES[0], 150_000)
    meter = UploadMeter(Topics(FLEET).upload_chunk(_DEVICE))
    again: dict[int, int] = {}
    with Stand(folder / "stand") as stand:
        broker = urlsplit(stand.broker_url)
        with CuttingProxy(str(broker.hostname), broker.port or 1883, meter) as proxy:
            command = agent_command(proxy.url, _DEVICE, text.path, folder / "state", memory="3GB")
            stand.start("agent", command)
            stand.wait_for("the agent", lambda: stand.ready_devices() == 1)
            size_bytes, uncut_bytes = _upload(stand, meter, _job("uncut", base))
            for seed in _QUICK_SEEDS if quick else _SEEDS:
                at = random.Random(f"cut {seed}").randrange(1, size_bytes)
                proxy.cut_after(meter.blob_bytes + at)
                size_bytes, sent_bytes = _upload(stand, meter, _job(f"cut-{seed}", base))
                again[seed] = sent_bytes - size_bytes
                proxy.check(len(again))
                say(f"cut at byte {at} of {size_bytes}: {again[seed]} bytes were sent again")
    return [
        told("size of the upload that is cut", size_bytes / 1e6, "MB"),
        checked(
            "not cut: blob bytes beyond its size", uncut_bytes - size_bytes, "bytes", "= 0",
            uncut_bytes == size_bytes,
        ),
        *(
            at_most(f"cut at a random byte, seed {seed}: blob bytes sent again", sent / 1024, "KiB",
                    _MUST_BYTES / 1024)
            for seed, sent in again.items()
        ),
    ]  # fmt: skip


def _upload(stand: Stand, meter: UploadMeter, job: dict[str, object]) -> tuple[int, int]:
    """Run a job of one round; return the update's size and the blob bytes that were sent."""
    before = meter.blob_bytes
    detail = stand.run_job(job, _JOB_S)
    members = detail.rounds[0].members
    if [member.state for member in members] != ["delivered"]:
        raise BenchError(f"job {job['job']}: the update was not delivered.")
    return members[0].update_bytes, meter.blob_bytes - before


def _job(name: str, base: Path) -> dict[str, object]:
    return {
        "job": name,
        "model": {"base": str(base)},
        "lora": {"rank": _RANK, "min_rank": _RANK},
        "rounds": 1,
        "cohort": {"min": 1, "max": 1},
        "deadline_s": 240,
        "local": {"steps": 1, "batch": 1, "seq_len": 64, "min_seq_len": 64, "lr": 0.001},
        "codec": "raw",
        "seed": 7,
    }
