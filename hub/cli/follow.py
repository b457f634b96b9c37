"""Following a job: a live line on a terminal, a line for each change elsewhere; on stderr."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from hub.api.control import ENDED, JobDetail
from hub.cli.client import HubClient
from hub.cli.output import loss, printable, updates
from hub.errors import UnreachableError

POLL_S = 0.5


def follow(client: HubClient, job: str, pause: Callable[[float], None] = time.sleep) -> JobDetail:
    """Return a job once it has ended, showing meanwhile how far it is.

    A hub that goes away is waited for: it continues its jobs when it is back.

    Args:
        client: the hub.
        job: the job's name.
        pause: waits between two looks, for the given number of seconds.
    """
    console = Console(stderr=True, highlight=False)
    last = ""
    with console.status("") as live:
        while True:
            detail: JobDetail | None = None
            try:
                detail = client.job(job)
                line = _line(detail)
            except UnreachableError as error:
                line = f"{error} Waiting for it."
            if line != last:
                live.update(Text(line))
                if not console.is_terminal:
                    console.print(Text(line), soft_wrap=True)
                last = line
            if detail is not None and detail.summary.phase in ENDED:
                return detail
            pause(POLL_S)


def _line(detail: JobDetail) -> str:
    job = detail.summary
    parts = [f"{job.job}: round {job.round} of {job.rounds}", job.phase]
    if job.heldout_loss is not None:
        parts.append(f"held-out loss {loss(job.heldout_loss)}")
    worst = [
        one.worst_tenth
        for one in detail.rounds
        if one.worst_tenth is not None and one.phase != "rolled_back"
    ]
    if worst:
        parts.append(f"worst tenth {loss(worst[-1])}")
    if detail.rounds:
        parts.append(f"{updates(detail.rounds[-1].members)} updates")
    return printable(", ".join(parts))
