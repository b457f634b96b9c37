"""Keeps a worker for as long as it is useful, and within the agent's memory."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from edge_agent.probe.process import resident_bytes
from edge_agent.protocol import Command, Fetch, Fetched, Ready, Warm, Work
from edge_agent.task_run import Settings
from edge_agent.worker_process import WorkerDied, WorkerEvent, WorkerProcess

log = logging.getLogger(__name__)

SAMPLE_S = 0.5


class WorkerHost:
    """The worker, started when needed, warm between tasks, ended when idle for long.

    Args:
        settings: threads and idle time.
        folder: the agent's state folder, for the worker's log.
        deliver: takes the worker's events.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        deliver: Callable[[WorkerEvent | WorkerDied], None],
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._deliver = deliver
        self._process: WorkerProcess | None = None
        self._past_peak_bytes = 0
        self._next_sample = 0.0
        self._idle_since: float | None = None
        self._warming = False
        self._fetching: str | None = None
        self.runtime_bytes = 0  # of a warm worker before any task; 0 until it was measured
        self.fetched_bytes = 0
        self.killed_for_memory = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def resident_bytes(self) -> int | None:
        return self._process.resident_bytes if self._process else None

    @property
    def peak_bytes(self) -> int:
        """Greatest resident memory of any worker of this agent."""
        return max(self._past_peak_bytes, self._process.peak_bytes if self._process else 0)

    def base_folder(self, digest: str) -> Path | None:
        """Return where a base is, if it is complete."""
        folder = self._folder / "models" / digest
        return folder if (folder / "complete").is_file() else None

    def warm(self) -> None:
        """Let the worker import what it needs; `Ready` follows."""
        if not self._warming and self.runtime_bytes == 0:
            self._warming = True
            self._send(Warm())

    def fetch(self, command: Fetch) -> None:
        """Let the worker fetch a base, unless it already does."""
        if self._fetching != command.digest:
            self._fetching = command.digest
            self._send(command)

    def work(self, command: Work) -> None:
        """Let the worker do a task."""
        self._idle_since = None
        self._send(command)

    def on_ready(self, event: Ready) -> None:
        self._warming = False
        self.runtime_bytes = event.runtime_bytes

    def on_fetched(self, event: Fetched) -> None:
        self._fetching = None
        self.fetched_bytes += event.downloaded_bytes

    def on_idle(self) -> None:
        """The worker ended a command."""
        self._fetching = None
        if self._process is not None:
            self._process.sample()

    def on_death(self) -> None:
        """The process is gone; the next command starts another."""
        if self._process is not None:
            self._past_peak_bytes = self.peak_bytes
            self._process.stop()
        self._process = None
        self._warming = False
        self._fetching = None
        self.killed_for_memory = False

    def replace(self) -> None:
        """End the worker in the middle of its task; the next command starts another."""
        if self._process is not None:
            self._process.sample()
            self._process.kill()
            self.on_death()

    def stop(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.stop()
            self.on_death()

    def tick(self, now: float, *, busy: bool, limit_bytes: int) -> None:
        """Sample the memory; end a worker that exceeds it, or that idled for long."""
        if self._process is None or now < self._next_sample:
            return
        self._next_sample = now + SAMPLE_S
        used = self._process.sample() + (resident_bytes(os.getpid()) or 0)
        if used > limit_bytes and not self.killed_for_memory and not self._warming:
            log.warning("%d bytes are used of %d; ending the worker", used, limit_bytes)
            self.killed_for_memory = True
            self._process.kill()
            return
        if busy or self._warming or self._fetching:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > self._settings.worker_idle_s:
            log.info("the worker was idle for %.0f s; ended", now - self._idle_since)
            self.stop()

    def _send(self, command: Command) -> None:
        if self._process is None:
            self._process = WorkerProcess(
                self._settings.threads, self._folder / "worker.log", self._deliver
            )
        self._process.send(command)
