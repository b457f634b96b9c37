"""What the coordinator asks before it answers a device or deletes a blob."""

from collections.abc import Callable
from typing import Any

from hub.rounds import actions, events
from hub.rounds.queries import (
    last_accepted,
    may_take,
    needed_adapters,
    needed_states,
    needed_updates,
    verdict,
    workers,
)

Start = Callable[..., Any]


def test_the_verdict_on_an_update_follows_the_round(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    assert verdict(job.state, "a", 1, 1.0).counts == "fresh"
    job.update("a", at=1)
    assert verdict(job.state, "a", 1, 2.0).counts == "repeat"
    assert verdict(job.state, "b", 1, 99.9).counts == "fresh"
    assert verdict(job.state, "b", 1, 100.0).counts == "stale"
    assert verdict(job.state, "x", 1, 2.0).counts == "refused"
    assert verdict(job.state, "b", 2, 2.0).reason == "there is no round 2 (yet)."


def test_in_the_last_round_late_is_too_late(play: Start) -> None:
    job = play(rounds=1)
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    assert "no round follows" in verdict(job.state, "b", 1, 100.0).reason


def test_an_update_may_be_late_by_a_bounded_number_of_rounds(play: Start) -> None:
    job = play(rounds=9, max_staleness=2)
    job.open("a", "b", at=0, min_updates=1)
    for _ in range(2):
        job.update("a")
        job.clock(job.state.current.deadline or job.now)
        job.publish()
        job.open("a")
    assert (job.state.current.round, verdict(job.state, "b", 1, job.now).counts) == (3, "stale")
    job.update("a")  # round 3 closes: the update would enter round 4
    assert "3 rounds old" in verdict(job.state, "b", 1, job.now).reason


def test_a_devices_last_accepted_task_is_of_whichever_round_it_was(play: Start) -> None:
    job = play(rounds=9, max_staleness=2)
    job.open("a", "b", at=0, min_updates=1)
    assert last_accepted(job.state, "a") is None
    job.update("a", at=1)
    assert last_accepted(job.state, "a") == 1
    job.clock(100)
    job.publish()
    job.open("a", "b")
    job.update("b", round_=1)  # late
    assert [last_accepted(job.state, one) for one in ("a", "b", "x")] == [1, 1, None]
    job.update("a")
    assert last_accepted(job.state, "a") == 2


def test_a_task_can_be_taken_while_its_round_hopes_for_it(play: Start) -> None:
    job = play()
    assert may_take(job.state, "a", 1, 0.0) == "a has no task in round 1."
    job.open("a", at=0)
    assert may_take(job.state, "a", 1, 99.0) is None
    job.take("a")
    assert may_take(job.state, "a", 1, 99.0) is None
    assert (
        may_take(job.state, "a", 1, 100.0) == "the task in round 1 is not open any more (missed)."
    )


def test_updates_are_kept_until_they_are_published(play: Start) -> None:
    job = play()
    job.open("a", "b", at=0, min_updates=1)
    job.update("a", at=1)
    job.clock(100)
    job.update("b", at=101)
    assert needed_updates(job.state) == {"a@1", "b@1"}
    job.publish(at=102)
    assert needed_updates(job.state) == {"b@1"}


def test_workers_delivered_an_update_once_or_are_members_now(play: Start) -> None:
    job = play()
    assert workers(job.state) == set()
    job.open("a", "b", at=0, min_updates=1)
    assert workers(job.state) == {"a", "b"}
    job.update("a", at=1)
    job.clock(100)
    job.publish(at=102)
    job.open("c", at=103)
    assert workers(job.state) == {"a", "c"}  # "b" was a member, and did nothing


def test_adapters_are_kept_as_long_as_an_update_may_refer_to_them(play: Start) -> None:
    job = play(rounds=5, max_staleness=1)
    for _ in range(3):
        job.open("a")
        job.update("a")
        job.publish()
    # Round 4 is open: late updates of round 3 (which started from adapter2) may come.
    assert needed_adapters(job.state) == {"adapter2", "adapter3"}
    job.open("a")
    job.update("a")
    job.send(events.Combined(round=4, manifest="next"))
    assert needed_adapters(job.state) == {"adapter2", "adapter3", "next"}


def test_a_strategys_state_is_kept_as_long_as_its_adapter(play: Start) -> None:
    job = play(rounds=5, max_staleness=1)
    assert needed_states(job.state) == set()
    for round_ in (1, 2, 3):
        job.open("a")
        job.update("a")
        combine = job.wanted(actions.Combine)[0]
        assert combine.state == (f"state{round_ - 1}" if round_ > 1 else None)
        job.send(events.Combined(round=round_, manifest=f"adapter{round_}", state=f"state{round_}"))
        job.send(events.Published(round=round_))
    assert needed_states(job.state) == {"state2", "state3"}
    job.open("a")
    job.update("a")
    job.send(events.Combined(round=4, manifest="adapter4", state="state4"))
    assert needed_states(job.state) == {"state2", "state3", "state4"}
    job.send(events.Cancelled(reason="enough"))
    assert needed_states(job.state) == set()
