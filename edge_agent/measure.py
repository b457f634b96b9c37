"""Measures what the agent's runtime itself takes on this machine."""

import os
import queue
import tempfile
from pathlib import Path
from typing import Any

from edge_agent.errors import AgentError
from edge_agent.probe.process import resident_bytes
from edge_agent.protocol import Ready, Warm
from edge_agent.worker_process import WorkerEvent, WorkerProcess

#: Importing torch from a slow card may take a minute.
TIMEOUT_S = 300.0


def runtime_bytes(threads: int) -> int:
    """Return the resident memory of a supervisor and a warm worker before any task, in bytes.

    Raises:
        AgentError: the worker could not start; its log's end is in the message.
    """
    inbox: queue.Queue[Any] = queue.Queue()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "worker.log"
        worker = WorkerProcess(threads, log, inbox.put)
        try:
            worker.send(Warm())
            event = inbox.get(timeout=TIMEOUT_S)
        except queue.Empty:
            event = None
        finally:
            worker.stop()
        if isinstance(event, WorkerEvent) and isinstance(event.event, Ready):
            return event.event.runtime_bytes + (resident_bytes(os.getpid()) or 0)
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise AgentError(
        f"the worker did not start: {''.join(last) or event}. Is the extra 'train' installed?"
    )
