"""A request is repeated until its reply comes, with growing pauses."""

from itertools import pairwise

from edge_agent.asking import FIRST_WAIT_S, LAST_WAIT_S, Asking
from wire.messages import Accepted, Hello, Message, Reply


def hello(request: str) -> Hello:
    return Hello(id=request, session="s", agent_version="1", wire_version=1)


def test_it_is_sent_at_once_and_again_until_answered() -> None:
    sent: list[Message] = []
    replies: list[Reply] = []
    asking = Asking(sent.append)
    asking.ask("7", hello("7"), replies.append, now=0)
    assert len(sent) == 1
    asking.tick(now=FIRST_WAIT_S - 0.1)
    assert len(sent) == 1
    asking.tick(now=FIRST_WAIT_S)
    assert len(sent) == 2
    assert asking.answer(Accepted(re="7", session="s"))
    asking.tick(now=1000)
    assert len(sent) == 2
    assert len(replies) == 1


def test_the_pauses_double_up_to_a_greatest() -> None:
    sent: list[float] = []
    clock = 0.0
    asking = Asking(lambda _message: sent.append(clock))
    asking.ask("1", hello("1"), lambda _reply: None, now=0)
    while clock < 400:
        clock += 1
        asking.tick(clock)
    pauses = [later - earlier for earlier, later in pairwise(sent)]
    assert pauses[:4] == [3, 6, 12, 24]
    assert max(pauses) == LAST_WAIT_S


def test_a_second_reply_finds_nobody() -> None:
    replies: list[Reply] = []
    asking = Asking(lambda _message: None)
    asking.ask("1", hello("1"), replies.append, now=0)
    assert asking.answer(Accepted(re="1", session="s"))
    assert not asking.answer(Accepted(re="1", session="s"))
    assert len(replies) == 1


def test_what_is_forgotten_is_not_repeated() -> None:
    sent: list[Message] = []
    asking = Asking(sent.append)
    asking.ask("1", hello("1"), lambda _reply: None, now=0)
    asking.forget("1")
    asking.repeat_all(now=1)
    assert len(sent) == 1
