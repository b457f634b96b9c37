"""A user's wait is held long enough to be noticed, and let go in the end."""

import threading

from edge_agent.serving.user_waits import UserWaits


class Lock:
    """A lock that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.free = threading.Event()

    def tell(self, waits: bool) -> None:
        self.told.append(waits)
        if not waits:
            self.free.set()

    def close(self) -> None:
        self.told.append("closed")


def test_a_short_answer_is_held_for_a_while() -> None:
    lock = Lock()
    waits = UserWaits(lock, linger_s=3600)  # type: ignore[arg-type]
    waits.tell(True)
    waits.tell(False)
    waits.tell(True)
    waits.tell(False)
    assert lock.told == [True, True]
    waits.close()
    waits.tell(True)
    assert lock.told == [True, True, "closed"]


def test_it_is_let_go_in_the_end() -> None:
    lock = Lock()
    waits = UserWaits(lock, linger_s=0.01)  # type: ignore[arg-type]
    waits.tell(True)
    waits.tell(False)
    assert lock.free.wait(20)
    assert lock.told == [True, False]
    waits.close()
