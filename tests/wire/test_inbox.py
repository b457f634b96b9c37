"""A bounded queue: in order, full means waiting, and whoever waits for room is woken."""

import queue
import threading

import pytest

from wire.inbox import Inbox


def test_events_come_out_in_the_order_in_which_they_went_in() -> None:
    inbox = Inbox(3)
    for event in ("a", "b", "c"):
        inbox.put(event)
    assert [inbox.get(timeout=1.0) for _ in range(3)] == ["a", "b", "c"]


def test_an_empty_one_says_so() -> None:
    with pytest.raises(queue.Empty):
        Inbox(3).get(timeout=0.01)


def test_a_full_one_takes_no_more() -> None:
    inbox = Inbox(2)
    inbox.put("a")
    inbox.put("b")
    with pytest.raises(queue.Full):
        inbox.put("c", timeout=0.01)
    assert inbox.get(timeout=1.0) == "a"
    inbox.put("c", timeout=0.01)
    assert [inbox.get(timeout=1.0) for _ in range(2)] == ["b", "c"]


def test_many_that_wait_for_room_all_get_it() -> None:
    inbox, putters, each = Inbox(2), 4, 500

    def put(number: int) -> None:
        for count in range(each):
            inbox.put((number, count), timeout=60.0)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(putters)]
    for thread in threads:
        thread.start()
    got = [inbox.get(timeout=60.0) for _ in range(putters * each)]
    for thread in threads:
        thread.join(60.0)
    for number in range(putters):
        assert [count for who, count in got if who == number] == list(range(each))
