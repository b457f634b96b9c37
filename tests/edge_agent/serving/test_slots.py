"""Answers share a session turn by turn; what a slot still holds is used again."""

from collections.abc import Sequence

from edge_agent.serving.generation import Begun, Broke, Ended, Generation, Piece, Request, Told
from edge_agent.serving.sampling import Sampling
from edge_agent.serving.slots import FAILED, Slots
from tests.edge_agent.serving.conftest import CountingSession

GREEDY = Sampling(temperature=0)


def _letters(ids: Sequence[int]) -> str:
    return bytes(ids).decode("latin-1")


def generation(text: str, most: int = 3, ends: str = "", stops: tuple[str, ...] = ()) -> Generation:
    request = Request(list(text.encode()), most, frozenset(ends.encode()), stops, GREEDY)
    return Generation(request, _letters)


def told(one: Generation) -> list[Told]:
    found = []
    while not one.told.empty():
        found.append(one.told.get())
    return found


def answer(one: Generation) -> str:
    return "".join(piece.text for piece in told(one) if isinstance(piece, Piece))


def _run(slots: Slots) -> None:
    while slots.busy:
        slots.turn()


def test_an_answer_goes_on_until_there_is_enough(session: CountingSession) -> None:
    slots, one = Slots(session, "x", 8), generation("ab", most=3)
    slots.begin(one)
    _run(slots)
    found = told(one)
    assert found[0] == Begun("x")
    assert [piece.text for piece in found[1:4] if isinstance(piece, Piece)] == ["c", "d", "e"]
    assert found[4] == Ended("length", asked=2, reused=0, answered=3)


def test_an_end_token_is_not_told(session: CountingSession) -> None:
    slots, one = Slots(session, "x", 8), generation("ab", most=9, ends="e")
    slots.begin(one)
    _run(slots)
    found = told(one)
    assert found[-1] == Ended("stop", asked=2, reused=0, answered=2)
    assert len(found) == 4


def test_a_stop_string_ends_an_answer(session: CountingSession) -> None:
    slots, one = Slots(session, "x", 8), generation("ab", most=9, stops=("ef",))
    slots.begin(one)
    _run(slots)
    found = told(one)
    assert "".join(piece.text for piece in found if isinstance(piece, Piece)) == "cd"
    assert isinstance(found[-1], Ended)
    assert found[-1].reason == "stop"


def test_a_long_question_does_not_stall_an_answer(session: CountingSession) -> None:
    slots = Slots(session, "x", 4)
    short, long = generation("a", most=6), generation("0123456789", most=1)
    slots.begin(short)
    slots.turn()
    slots.begin(long)
    _run(slots)
    sizes = [(len(one.get(0, [])), len(one.get(1, []))) for one in session.passes]
    assert sizes == [(1, 0), (1, 4), (1, 4), (1, 2), (1, 0), (1, 0)]


def test_questions_share_a_turn(session: CountingSession) -> None:
    slots = Slots(session, "x", 4)
    for text in ("012345", "abcdef"):
        slots.begin(generation(text, most=1))
    _run(slots)
    assert [sum(map(len, one.values())) for one in session.passes] == [4, 4, 4]


def test_an_answer_ends_with_the_context(session: CountingSession) -> None:
    slots, one = Slots(session, "x", 64), generation("x" * 30, most=100)
    slots.begin(one)
    _run(slots)
    found = told(one)
    assert found[-1] == Ended("length", asked=30, reused=0, answered=3)


def test_what_a_slot_holds_is_used_again(session: CountingSession) -> None:
    slots, first = Slots(session, "x", 64), generation("hello ab", most=3)
    slots.begin(first)
    _run(slots)
    assert answer(first) == "cde"
    again = generation("hello abcd!", most=1)
    slots.begin(again)
    _run(slots)
    # "hello abcd" was held, the last letter of the answer before never was.
    assert session.passes[-1] == {0: list(b"!")}
    assert told(again)[-1] == Ended("length", asked=11, reused=10, answered=1)
    same = generation("hello abcd!", most=1)
    slots.begin(same)
    _run(slots)
    assert session.passes[-1] == {0: list(b"!")}  # its logits are needed
    assert answer(same) == '"'


def test_another_question_takes_the_slot_that_is_worth_least(session: CountingSession) -> None:
    slots = Slots(session, "x", 64)
    for text in ("aaaa", "bbbb", "bbcc"):
        slots.begin(generation(text, most=1))
        _run(slots)
    assert [bytes(one) for one in session.held] == [b"aaaa", b"bbcc"]
    slots.begin(generation("zz", most=1))
    _run(slots)
    assert [bytes(one) for one in session.held] == [b"zz", b"bbcc"]  # the one used longest ago


def test_who_went_away_makes_room(session: CountingSession) -> None:
    slots, gone = Slots(session, "x", 64), generation("a", most=9)
    slots.begin(gone)
    slots.turn()
    gone.cancelled.set()
    slots.turn()
    assert (slots.busy, len(session.passes)) == (0, 1)


def test_a_failure_ends_the_answers_that_it_hits(session: CountingSession) -> None:
    slots, one = Slots(session, "x", 64), generation("a", most=9)
    slots.begin(one)
    session.fails = True
    slots.turn()
    assert told(one) == [Begun("x"), Broke("it fails.")]
    session.fails = False
    later = generation("a", most=1)
    slots.begin(later)
    _run(slots)
    assert answer(later) == "b"


def test_an_answer_that_fails_oddly_ends_no_other(session: CountingSession) -> None:
    def odd(_: Sequence[int]) -> str:
        raise KeyError("secret")

    slots, good = Slots(session, "x", 64), generation("a", most=2)
    bad = Generation(generation("k", most=2).request, odd)
    for one in (bad, good):
        slots.begin(one)
    _run(slots)
    assert told(bad) == [Begun("x"), Broke(FAILED)]
    assert answer(good) == "bc"
