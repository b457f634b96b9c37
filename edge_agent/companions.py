"""A worker of several processes: the first one answers the supervisor, the others go along.

``accelerate launch`` starts them all alike. Each ends when the launcher does, and the launcher ends
them when one of them does.
"""

import os
import signal
import sys
from typing import TYPE_CHECKING

import msgspec

from edge_agent.protocol import Command, Work

if TYPE_CHECKING:
    from edge_agent.training.silo import Silo
    from edge_agent.worker import Worker

_PR_SET_PDEATHSIG = 1  # prctl(2)


def has_companions() -> bool:
    """Return whether this worker is one process of several (torchrun says so)."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join() -> "Silo":
    """Meet the others; some seconds, for torch is imported."""
    if sys.platform == "linux":  # elsewhere the others see that the first one is gone
        import ctypes  # a worker of one process never needs it

        launcher = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(1)
    from edge_agent.training.silo import Silo

    return Silo()


def share(silo: "Silo", command: Command) -> None:
    """Give the others a command that is done together."""
    from edge_agent.training.task import is_shared

    if isinstance(command, Work) and is_shared(command):
        silo.tell(msgspec.json.encode(command))


def go_along(silo: "Silo", worker: "Worker") -> None:
    """Do what the first process says, until it ends."""
    while True:
        worker.do(msgspec.json.decode(silo.heard(), type=Command))
