"""Requests wait their turn, and each is answered by one adapter from its beginning to its end."""

import threading

import pytest

from edge_agent.inference.errors import EngineError
from edge_agent.serving.generation import Begun, Broke, Ended, Generation, Piece, Told
from edge_agent.serving.scheduler import FullError, Scheduler
from edge_agent.serving.slots import FAILED, Slots
from tests.edge_agent.serving.conftest import CountingSession
from tests.edge_agent.serving.test_slots import generation


def _all(one: Generation) -> list[Told]:
    found: list[Told] = []
    while not found or not isinstance(found[-1], Ended | Broke):
        found.append(one.told.get(timeout=20))
    return found


def _text(found: list[Told]) -> str:
    return "".join(one.text for one in found if isinstance(one, Piece))


class SlowSession(CountingSession):
    """A session whose passes wait until they are let go."""

    def __init__(self, step: int = 1, slots: int = 2) -> None:
        super().__init__(step, slots)
        self.gate = threading.Semaphore(0)

    def feed(self, tokens):  # type: ignore[no-untyped-def]
        assert self.gate.acquire(timeout=20)
        return super().feed(tokens)


def test_more_requests_than_slots_are_all_answered(session: CountingSession) -> None:
    scheduler = Scheduler()
    scheduler.switch(session, "x")
    asked = [generation(chr(65 + at), most=4) for at in range(9)]
    for one in asked:
        scheduler.submit(one)
    for at, one in enumerate(asked):
        assert _text(_all(one)) == bytes(range(66 + at, 70 + at)).decode()
    scheduler.close()
    assert session.closed


def test_what_is_under_way_ends_on_the_old_adapter() -> None:
    scheduler, old, new = Scheduler(), SlowSession(1, slots=1), SlowSession(2, slots=1)
    scheduler.switch(old, "old")
    under_way, waiting = generation("A", most=4), generation("A", most=3)
    scheduler.submit(under_way)
    assert under_way.told.get(timeout=20) == Begun("old")
    scheduler.submit(waiting)
    scheduler.switch(new, "new")
    old.gate.release(9)
    new.gate.release(9)
    assert _text(_all(under_way)) == "BCDE"
    found = _all(waiting)
    assert (found[0], _text(found)) == (Begun("new"), "CEG")
    scheduler.close()
    assert old.closed and new.closed
    assert len(old.passes) == 4


def test_answers_by_all_adapters_take_no_more_than_the_slots() -> None:
    scheduler, old, new = Scheduler(), SlowSession(1), CountingSession(2)
    scheduler.switch(old, "old")
    assert scheduler.settled
    slow = [generation("A", most=9) for _ in range(2)]
    for one in slow:
        scheduler.submit(one)
        old.gate.release()  # a pass, behind which the next one begins
        assert one.told.get(timeout=20) == Begun("old")
    scheduler.switch(new, "new")
    waiting = generation("A", most=1)
    scheduler.submit(waiting)
    passes = len(old.passes)
    old.gate.release(2)
    while len(old.passes) < passes + 2:  # two turns since, or more
        threading.Event().wait(0.01)
    assert waiting.told.empty()
    assert not scheduler.settled
    for one in slow:
        one.cancelled.set()
    old.gate.release(9)
    assert _text(_all(waiting)) == "C"
    scheduler.close()


def test_requests_wait_for_the_first_session(session: CountingSession) -> None:
    scheduler, one = Scheduler(), generation("A", most=1)
    scheduler.submit(one)
    scheduler.switch(session, "x")
    assert _text(_all(one)) == "B"
    scheduler.close()


def test_too_many_requests_are_refused() -> None:
    scheduler, slow = Scheduler(queue=2), SlowSession(slots=1)
    scheduler.switch(slow, "x")
    first = generation("A", most=1)
    scheduler.submit(first)
    assert first.told.get(timeout=20) == Begun("x")
    for _ in range(2):
        scheduler.submit(generation("A", most=1))
    with pytest.raises(FullError, match="2 requests wait"):
        scheduler.submit(generation("A", most=1))
    slow.gate.release(9)
    assert isinstance(_all(first)[-1], Ended)
    scheduler.close()


def test_it_is_told_whether_a_user_waits(session: CountingSession) -> None:
    heard: list[bool] = []
    quiet = threading.Event()

    def hear(waits: bool) -> None:
        heard.append(waits)
        if not waits:
            quiet.set()

    scheduler = Scheduler(tell_waiting=hear)
    scheduler.switch(session, "x")
    for _ in range(2):
        quiet.clear()
        scheduler.submit(generation("A", most=3))
        assert quiet.wait(20)
    scheduler.close()
    assert heard == [True, False, True, False]


def _answers(scheduler: Scheduler) -> bool:
    one = generation("A", most=1)
    scheduler.submit(one)
    return _text(_all(one)) == "B"


def test_an_agent_that_cannot_be_told_costs_no_answer(session: CountingSession) -> None:
    def tell(_: bool) -> None:
        raise OSError("no locks available")

    scheduler = Scheduler(tell_waiting=tell)
    scheduler.switch(session, "x")
    assert all(_answers(scheduler) for _ in range(2))
    scheduler.close()


def test_a_session_that_does_not_close_stops_no_other() -> None:
    class Stuck(CountingSession):
        def close(self) -> None:
            raise RuntimeError("the answer was: secret")

    scheduler, last = Scheduler(), Stuck()
    for one in (Stuck(), last):
        scheduler.switch(one, "x")
        assert _answers(scheduler)
    scheduler.close()


def test_an_answer_that_cannot_begin_is_told(
    session: CountingSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler, one = Scheduler(), generation("A")
    scheduler.switch(session, "x")
    with monkeypatch.context() as patch:
        patch.delattr(CountingSession, "keep")
        scheduler.submit(one)
        assert _all(one) == [Broke(FAILED)]
    assert _answers(scheduler)
    scheduler.close()


def test_an_unknown_error_ends_the_answers_and_quotes_nothing(
    session: CountingSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def turn(_: Slots) -> None:
        raise RuntimeError("secret")

    heard: list[bool] = []
    quiet = threading.Event()

    def hear(waits: bool) -> None:
        heard.append(waits)
        if not waits:
            quiet.set()

    scheduler, one = Scheduler(tell_waiting=hear), generation("A")
    with monkeypatch.context() as patch:
        patch.setattr(Slots, "turn", turn)
        scheduler.submit(one)
        scheduler.switch(session, "x")
        assert _all(one)[-1] == Broke(FAILED)
        assert quiet.wait(20)
    assert heard == [True, False]  # the agent's task goes on
    assert _answers(scheduler)
    scheduler.close()
    assert "a turn failed: RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_stopping_ends_what_is_under_way() -> None:
    scheduler, slow = Scheduler(), SlowSession(slots=1)
    scheduler.switch(slow, "x")
    asked = [generation("A", most=20) for _ in range(2)]
    for one in asked:
        scheduler.submit(one)
    assert asked[0].told.get(timeout=20) == Begun("x")
    slow.gate.release(1)
    closer = threading.Thread(target=scheduler.close)
    closer.start()
    slow.gate.release(9)
    for one in asked:
        assert _all(one)[-1] == Broke("the server is stopping.")
    closer.join(20)
    with pytest.raises(EngineError, match="stopping"):
        scheduler.submit(generation("A"))
    later = CountingSession()
    scheduler.switch(later, "y")
    assert later.closed
