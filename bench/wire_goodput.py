"""Goodput of a 50 MB update, agent to hub on loopback, against the broker's own.

A real agent trains one step of a wide adapter and uploads it raw; the time is the one that its
result tells the hub, from the first request to the answer that the whole is verified and on
disk. The anchor sends as many bytes by bare paho through the same mosquitto, in turns with it.
"""

import statistics
import subprocess
import sys
from pathlib import Path

from bench.real_agent import agent_command
from bench.report import BenchError, Row, at_least, say, told
from bench.small_base import WIDE_LORA_NUMBERS_PER_RANK
from bench.stand import Stand
from hub.demo.texts import PACKAGES, write_text

_RANK = 436  # 436 x 28,672 numbers of four bytes: 50.0 MB
_TURNS = 3
_MUST, _AIM = 0.6, 0.9
_JOB_S = 600.0
_RAW_S = 180.0


def goodput_rows(folder: Path, base: Path, *, quick: bool) -> list[Row]:
    """Return the agent's goodput, the broker's own, and their ratio.

    Args:
        folder: for state and logs.
        base: the wide base.
        quick: one turn instead of three.
    """
    text = write_text(folder, PACKAGES[0], 150_000)
    size_bytes = _RANK * WIDE_LORA_NUMBERS_PER_RANK * 4
    ours, raw = [], []
    with Stand(folder / "stand") as stand:
        command = agent_command(
            stand.broker_url, "goodput", text.path, folder / "state", memory="6GB"
        )
        stand.start("agent", command)
        stand.wait_for("the agent", lambda: stand.ready_devices() == 1)
        for turn in range(1 if quick else _TURNS):
            raw.append(size_bytes / _raw_s(stand.broker_url, size_bytes) / 1e6)
            sent_bytes, seconds = _upload(stand, _job(f"turn-{turn}", base))
            if sent_bytes < size_bytes:
                raise BenchError(f"the update has {sent_bytes} bytes, not {size_bytes}.")
            ours.append(sent_bytes / seconds / 1e6)
            say(f"turn {turn}: {ours[-1]:.0f} MB/s, bare paho {raw[-1]:.0f} MB/s")
    ratio = statistics.median(ours) / statistics.median(raw)
    return [
        told("50 MB, agent to hub: goodput, median", statistics.median(ours), "MB/s"),
        told("the same by bare paho, 64 KiB at QoS 1", statistics.median(raw), "MB/s"),
        at_least("goodput over bare paho's", ratio, "x", _MUST, aim=_AIM),
    ]


def _raw_s(broker_url: str, size_bytes: int) -> float:
    """Return the seconds that bare paho takes for so many bytes."""
    command = [sys.executable, "-m", "bench.raw_mqtt", broker_url]
    with subprocess.Popen(
        [*command, "receive", str(size_bytes)], stdout=subprocess.PIPE, text=True
    ) as receiver:
        try:
            if receiver.stdout is None or receiver.stdout.readline() != "ready\n":
                raise BenchError("the receiver of bare paho did not start.")
            sender = subprocess.run(
                [*command, "send", str(size_bytes)],
                capture_output=True, text=True, check=False, timeout=_RAW_S,
            )  # fmt: skip
            if sender.returncode != 0:
                raise BenchError(f"bare paho failed: {sender.stderr[-300:]}")
            receiver.wait(_RAW_S)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"bare paho took more than {_RAW_S:.0f} s.") from error
        finally:
            receiver.kill()
    return float(sender.stdout)


def _upload(stand: Stand, job: dict[str, object]) -> tuple[int, float]:
    """Run a job of one round; return the update's bytes and the seconds of its upload."""
    stand.run_job(job, _JOB_S)
    accepted = [
        event for event in stand.client.events(str(job["job"])) if event.kind == "UpdateAccepted"
    ]
    if len(accepted) != 1:
        raise BenchError(f"{len(accepted)} updates were accepted in job {job['job']}.")
    return accepted[0].data["size_bytes"], accepted[0].data["upload_s"]


def _job(name: str, base: Path) -> dict[str, object]:
    return {
        "job": name,
        "model": {"base": str(base)},
        "lora": {"rank": _RANK, "min_rank": _RANK},
        "rounds": 1,
        "cohort": {"min": 1, "max": 1},
        "deadline_s": 500,
        "local": {"steps": 1, "batch": 1, "seq_len": 32, "min_seq_len": 32, "lr": 0.001},
        "codec": "raw",
        "seed": 7,
    }
