"""Layers made ahead of time, on threads of their own: numpy lets them run on several cores.

Which layer is made on which thread changes nothing about it, and each is given out when it is asked
for. Bounded: no more are in the making, or waiting to be fetched, than there are threads.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from hub.aggregation.contract import Factors

#: Each more holds another layer's stacked factors, some MB.
MOST_THREADS = 4


class Ahead:
    """Makes layers, the ones that come next among them; a context manager.

    Args:
        make: makes one layer; it is called on several threads at once.
        order: in which layers will be asked for. Another order costs time alone.
        threads: at most so many; None: as many as there are cores.
    """

    def __init__(
        self, make: Callable[[str], Factors], order: Iterable[str], threads: int | None = None
    ) -> None:
        self._make = make
        self._order = list(order)
        self._place = {target: place for place, target in enumerate(self._order)}
        self._threads = threads or min(MOST_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self._threads, "layers")
        self._waiting: dict[str, Future[Factors]] = {}

    def __enter__(self) -> "Ahead":
        return self

    def __exit__(self, *_: object) -> None:
        # What nobody will fetch isn't begun; what is being made ends before its files are closed.
        self._pool.shutdown(cancel_futures=True)

    def factors(self, target: str) -> Factors:
        """Return a layer, and begin with those behind it."""
        at = self._place[target]
        wanted = self._order[at : at + self._threads]
        for other in set(self._waiting) - set(wanted):
            self._waiting.pop(other).cancel()
        self._begin(wanted)
        found = self._waiting.pop(target).result()
        self._begin(self._order[at + 1 : at + 1 + self._threads])
        return found

    def _begin(self, targets: Iterable[str]) -> None:
        for target in targets:
            if target not in self._waiting:
                self._waiting[target] = self._pool.submit(self._make, target)
