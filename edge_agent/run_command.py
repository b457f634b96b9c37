"""``lorikeet-agent run``, once its options are read: a process without the command line's library.

An agent waits most of its life. Typer, with what it imports to read options, would stay in its
memory all that time [10 of 38 MB, measured]; so the command line replaces itself, keeping its
process id, by ``python -m edge_agent.run_command``.
"""

import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec

from edge_agent.data_words import cleaned_words
from edge_agent.endings import exit_codes
from edge_agent.enrolment.identity import CA, CA_VARIABLE, identity_folder
from edge_agent.errors import AgentError, UsageError
from edge_agent.kept_settings import keep_settings
from edge_agent.task_run import Settings
from wire.quiet_log import Printable

_STOPS = (signal.SIGINT, signal.SIGTERM)


def become_agent(settings: Settings, *, as_json: bool) -> NoReturn:
    """Replace this process by an agent.

    Args:
        settings: what it is started with.
        as_json: print one JSON document at the end.

    Raises:
        UsageError: a path is not UTF-8: it could not be told to the worker.
    """
    try:
        words = [msgspec.json.encode(settings).decode(), *(["--json"] if as_json else [])]
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not UTF-8; give it another name.") from error
    # -P: nothing in the current folder may stand in for a module of ours.
    command = [sys.executable, "-P", "-m", "edge_agent.run_command", *words]
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that comes while the new interpreter starts waits until it can be heeded.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    os.execv(sys.executable, command)  # noqa: S606  (no shell is wanted)


def run_agent(settings: Settings) -> int:
    """Run an agent until it is told to stop; return the greatest memory it took, in bytes.

    Raises:
        AgentError: another agent uses the state folder, or the hub refuses this one.
        DataError: there is no usable text.
        WireError: the broker's URL or a name can't be used.
    """
    from edge_agent.agent import Supervisor

    log_to_stderr()
    with _only_one(Path(settings.state_folder)):
        keep_settings(settings)
        if settings.enrolled:  # the worker, which fetches models, inherits it
            os.environ[CA_VARIABLE] = str(identity_folder(Path(settings.state_folder)) / CA)
        agent = Supervisor(settings)
        for number in _STOPS:
            signal.signal(number, lambda *_: agent.stop())
        if agent.data.skipped:
            logging.getLogger("edge_agent").warning(
                "%d broken lines were skipped; %d examples are left",
                agent.data.skipped,
                agent.data.examples,
            )
        if cleaned := cleaned_words(agent.data):
            logging.getLogger("edge_agent").info("text: %s", cleaned)
        agent.run()
        return agent.peak_bytes()


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the state folder: two agents in one would spoil each other's files."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AgentError(
                f"state folder {folder} is used by another agent; give each its own --state."
            ) from error
        yield


def log_to_stderr() -> None:
    """Let the log go to standard error, in characters that a terminal takes."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Printable())
    logging.basicConfig(
        handlers=[handler],
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )


def main() -> None:
    """Run the agent that `become_agent` describes."""
    for number in _STOPS:
        signal.signal(number, lambda *_: sys.exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    with exit_codes():
        peak_bytes = run_agent(settings)
    if "--json" in sys.argv[2:]:
        document = {"device": settings.device, "peak_bytes": peak_bytes}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


if __name__ == "__main__":
    main()
