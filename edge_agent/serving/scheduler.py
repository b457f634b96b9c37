"""Continuous batching: one thread computes all answers together, a token each turn.

As in Orca (Yu et al. 2022, OSDI), answers join and leave between turns. A new adapter is a new
session: answers under way end on the old one, which is closed behind the last of them.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from edge_agent.errors import AgentError
from edge_agent.inference.contract import Session
from edge_agent.inference.errors import EngineError
from edge_agent.serving.generation import Broke, Generation
from edge_agent.serving.slots import FAILED, Slots
from edge_agent.worker import describe

log = logging.getLogger(__name__)


class FullError(AgentError):
    """Too many requests wait already."""


class Scheduler:
    """Answers requests on the newest session.

    Args:
        queue: requests that may wait.
        piece: tokens of questions that are taken in one turn.
        tell_waiting: told whether a user waits, whenever that changes; by the engine's thread.
    """

    def __init__(
        self,
        *,
        queue: int = 32,
        piece: int = 64,
        tell_waiting: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._most = queue
        self._piece = piece
        self._tell_waiting = tell_waiting
        self._changed = threading.Condition()
        self._queue: deque[Generation] = deque()
        self._current: Slots | None = None
        self._old: list[Slots] = []
        self._closed = False
        self._told = False  # that a user waits
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def adapter(self) -> str | None:
        """The name of the adapter that the next request gets, None while there is no session."""
        current = self._current
        return None if current is None else current.adapter

    @property
    def slots(self) -> int:
        """How many answers there may be at a time."""
        current = self._current
        return 0 if current is None else current.session.slots

    @property
    def busy(self) -> int:
        """How many answers are under way or waited for."""
        with self._changed:
            return len(self._queue) + sum(slots.busy for slots in self._all())

    @property
    def settled(self) -> bool:
        """Whether no answer goes on by an adapter before the newest."""
        with self._changed:
            return not self._old

    def submit(self, generation: Generation) -> None:
        """Queue a request; what comes of it is told to it.

        Raises:
            FullError: too many wait already.
            EngineError: the server is stopping.
        """
        with self._changed:
            if self._closed:
                raise EngineError("the server is stopping.")
            if len(self._queue) >= self._most:
                raise FullError(f"{self._most} requests wait already; try again in a moment.")
            self._queue.append(generation)
            self._changed.notify()

    def switch(self, session: Session, adapter: str) -> None:
        """Let the next requests be answered by a session, which is closed here in the end."""
        with self._changed:
            if self._closed:
                session.close()
                return
            if self._current is not None:
                self._old.append(self._current)
            self._current = Slots(session, adapter, self._piece)
            self._changed.notify()

    def close(self) -> None:
        """End all answers, and close the sessions."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _all(self) -> list[Slots]:
        return [*self._old, *([self._current] if self._current is not None else [])]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work)
                if self._closed:
                    break
            try:
                self._turn()
            except Exception as error:
                # The thread must live: nobody else answers. An unknown error could quote the text.
                log.error("a turn failed: %s", describe(error))
                for slots in self._all():
                    slots.stop(FAILED)
            with self._changed:
                busy = bool(self._queue) or any(slots.busy for slots in self._all())
            if not busy:
                self._tell(False)
        self._end()

    def _turn(self) -> None:
        with self._changed:
            self._begin()
            sessions = self._all()
            busy = any(slots.busy for slots in sessions)
        if busy:
            self._tell(True)
        for slots in sessions:
            slots.turn()
        self._close_old()

    def _tell(self, waits: bool) -> None:
        if waits == self._told:
            return
        self._told = waits
        try:
            self._tell_waiting(waits)
        except Exception as error:  # an answer needs no rest of the agent
            log.warning("the agent isn't told whether a user waits: %s", describe(error))

    def _has_work(self) -> bool:
        ready = self._queue and self._current is not None
        return bool(self._closed or ready or self._old or any(one.busy for one in self._all()))

    def _begin(self) -> None:
        """Give waiting requests the newest session's slots: of all answers no more than those."""
        current = self._current
        while self._queue and current is not None and self._has_room(current):
            generation = self._queue.popleft()
            if not generation.cancelled.is_set():
                try:
                    current.begin(generation)
                except EngineError as error:
                    generation.told.put(Broke(str(error)))
                except Exception as error:
                    log.error("an answer can't begin: %s", describe(error))
                    generation.told.put(Broke(FAILED))

    def _has_room(self, current: Slots) -> bool:
        under_way = sum(slots.busy for slots in self._all())
        return current.free and under_way < current.session.slots

    def _close_old(self) -> None:
        with self._changed:
            done = [slots for slots in self._old if not slots.busy]
            self._old = [slots for slots in self._old if slots.busy]
        for slots in done:
            self._give_up(slots)

    def _end(self) -> None:
        with self._changed:
            left = list(self._queue)
            self._queue.clear()
        for generation in left:
            generation.told.put(Broke("the server is stopping."))
        for slots in self._all():
            slots.stop("the server is stopping.")
            self._give_up(slots)

    @staticmethod
    def _give_up(slots: Slots) -> None:
        try:
            slots.session.close()
        except Exception as error:
            log.error("the session of %s isn't closed: %s", slots.adapter[:12], describe(error))
