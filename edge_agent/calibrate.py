"""Has a worker measure this device, and waits for it; the supervisor does the same by events."""

import logging
import queue
import signal
import tempfile
from pathlib import Path
from typing import Any

from edge_agent.calibrating import what_fits, worth_repeating
from edge_agent.calibration import (
    Calibration,
    Measured,
    least_runtime_bytes,
    load_calibration,
    present_key,
    save_calibration,
)
from edge_agent.errors import AgentError
from edge_agent.protocol import Calibrate, Calibrated, Failed
from edge_agent.runtimes import TORCH
from edge_agent.worker_process import WorkerDied, WorkerEvent, WorkerProcess

log = logging.getLogger(__name__)

#: Importing torch from a slow card may take a minute, and a slow core some more for the steps.
TIMEOUT_S = 600.0


def calibration_of(
    folder: Path,
    threads: int,
    limit_bytes: int,
    *,
    again: bool = False,
    runtime: str = TORCH,
) -> Calibration:
    """Return what is known of this device, measuring it first where nothing is.

    A limit under which no worker could start is planned with what one takes elsewhere. Where even
    the least measurement runs out of memory, nothing fits.

    Args:
        folder: the state folder.
        threads: for arithmetic.
        limit_bytes: for the whole agent.
        again: measure though something is known.
        runtime: that a worker computes with, of `edge_agent.runtimes`.

    Raises:
        AgentError: the worker could not start; its log's end is in the message.
    """
    known = load_calibration(folder, threads, runtime)
    if known is not None and not again and not worth_repeating(known, limit_bytes):
        return known
    key = present_key(threads, runtime)
    if limit_bytes < least_runtime_bytes(runtime):
        return known or Calibration(key=key, runtime=runtime)
    log.info("measuring this device; it takes some seconds, once")
    measured = _measure(threads, what_fits(limit_bytes, runtime))
    if measured is None:
        log.info("it ran out of memory; measuring less")
        measured = _measure(threads, Calibrate(wide=False, full=False))
    if measured is None:
        return Calibration(measured=Measured(lean_bytes=limit_bytes), runtime=runtime)
    found = Calibration(key=key, measured=measured, runtime=runtime)
    save_calibration(folder, threads, found)
    return found


def _measure(threads: int, command: Calibrate) -> Measured | None:
    """Return what a worker measured, None if it ran out of memory over it."""
    inbox: queue.Queue[Any] = queue.Queue()
    with tempfile.TemporaryDirectory() as folder:
        worker_log = Path(folder) / "worker.log"
        worker = WorkerProcess(threads, worker_log, inbox.put)
        try:
            worker.send(command)
            event = inbox.get(timeout=TIMEOUT_S)
        except queue.Empty:
            event = None
        finally:
            worker.stop()
        match event:
            case WorkerEvent(event=Calibrated(measured=measured)):
                return measured
            case WorkerEvent(event=Failed(kind="memory")):
                return None
            case WorkerDied(code=code) if code == -signal.SIGKILL:  # often the kernel's
                return None
            case WorkerEvent(event=Failed(message=message)):
                why = message
            case WorkerDied(code=code):
                last = worker_log.read_text(errors="replace").strip().splitlines()[-1:]
                why = "".join(last) or f"it ended with code {code}"
            case _:
                why = f"it said nothing for {TIMEOUT_S:.0f} s"
    raise AgentError(
        f"the worker could not measure itself: {why.rstrip('.')}. Is the extra 'train', "
        "'llama' or 'onnx' installed?"
    )
