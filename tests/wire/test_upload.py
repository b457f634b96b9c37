"""The sender's side: the pipe stays full, and any loss, repetition and reordering ends complete."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.errors import MalformedError
from wire.transfer import CHUNK_BYTES, MAX_WINDOW, WINDOW, Bitmap
from wire.upload import LISTED_WINDOWS, Upload


def begun(chunks: int, window: int = WINDOW, *, unasked: bool = False) -> Upload:
    """An upload whose announcement was answered: everything is missing."""
    upload = Upload(chunks * CHUNK_BYTES)
    upload.on_credit(upload.ask(), [(0, chunks)], window, unasked=unasked)
    return upload


def send(upload: Upload, at_most: int = 1000) -> list[int]:
    """Send what may be sent, asking nothing."""
    sent = []
    while (chunk := upload.next_chunk) is not None and len(sent) < at_most:
        upload.on_sent()
        sent.append(chunk)
    return sent


def test_nothing_is_sent_before_it_is_allowed() -> None:
    upload = Upload(CHUNK_BYTES)
    upload.ask()
    assert upload.next_chunk is None
    assert not upload.must_ask


def test_a_question_follows_each_half_of_the_window() -> None:
    upload = begun(100)
    assert send(upload, 3) == [0, 1, 2]
    assert not upload.must_ask
    assert send(upload, 1) == [3]
    assert upload.must_ask
    upload.ask()
    assert not upload.must_ask
    assert send(upload) == [4, 5, 6, 7]
    assert upload.must_ask


def test_an_answer_about_the_first_half_lets_the_next_one_go_while_the_second_travels() -> None:
    upload = begun(100)
    send(upload, 4)
    first = upload.ask()
    send(upload)
    upload.ask()
    assert upload.next_chunk is None
    # The receiver has 0 to 3; 4 to 7 are still on their way, and stand in the list as missing.
    upload.on_credit(first, [(4, 16)], WINDOW)
    assert upload.under_way == 4
    assert send(upload) == [8, 9, 10, 11]


def test_what_an_answer_lists_of_the_chunks_before_its_question_is_lost_and_goes_again() -> None:
    upload = begun(100)
    send(upload, 4)
    first = upload.ask()
    send(upload)
    second = upload.ask()
    upload.on_credit(first, [(1, 1), (4, 15)], WINDOW)  # 1 was lost
    assert send(upload) == [1, 8, 9, 10]
    upload.on_credit(second, [(1, 1), (8, 15)], WINDOW)  # 1 is on its way
    assert send(upload) == [11, 12, 13, 14]


def test_the_last_chunks_are_asked_about_at_once() -> None:
    upload = begun(9)
    send(upload, 4)
    upload.on_credit(upload.ask(), [(4, 5)], WINDOW)
    assert send(upload) == [4, 5, 6, 7, 8]
    assert upload.must_ask


def test_a_receiver_that_has_everything_is_asked_once_more_for_its_word() -> None:
    upload = begun(2)
    send(upload)
    upload.on_credit(upload.ask(), [], WINDOW)
    assert upload.must_ask
    upload.ask()
    assert not upload.must_ask


def test_a_receiver_that_forgot_everything_gets_everything_again() -> None:
    upload = begun(2)
    send(upload)
    upload.on_credit(upload.ask(), [(0, 2)], WINDOW)
    assert send(upload) == [0, 1]
    assert upload.sent == 4


def test_an_old_answer_that_comes_late_changes_nothing() -> None:
    upload = begun(100)
    send(upload, 4)
    first = upload.ask()
    send(upload)
    second = upload.ask()
    upload.on_credit(second, [(8, 16)], WINDOW)
    upload.on_credit(first, [(0, 16)], WINDOW)
    assert send(upload) == [8, 9, 10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize(("window", "sends"), [(0, 0), (-5, 0), (3, 3), (10**9, MAX_WINDOW)])
def test_windows_are_obeyed_within_reason(window: int, sends: int) -> None:
    upload = begun(1000, window)
    assert len(send(upload)) == sends
    assert upload.stalled == (sends == 0)


def test_a_window_that_shrinks_lets_what_is_under_way_arrive_first() -> None:
    upload = begun(100)
    send(upload)
    first = upload.ask()
    upload.on_credit(first, [(8, 16)], 2)
    assert send(upload) == [8, 9]


def test_a_window_of_one_chunk_asks_after_each() -> None:
    upload = begun(3, window=1)
    assert send(upload) == [0]
    assert upload.must_ask


def test_an_answer_about_another_blob_is_refused() -> None:
    upload = Upload(2 * CHUNK_BYTES)
    with pytest.raises(MalformedError):
        upload.on_credit(upload.ask(), [(2, 1)], 8)


def test_a_receiver_that_tells_by_itself_is_asked_behind_the_last_chunk_alone() -> None:
    upload = begun(12, unasked=True)
    assert send(upload) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert not upload.must_ask
    assert upload.waits
    upload.on_unasked([(4, 8)], WINDOW)
    assert not upload.waits
    assert send(upload, 3) == [8, 9, 10]
    assert not upload.must_ask
    assert send(upload) == [11]
    assert upload.must_ask
    upload.on_credit(upload.ask(), [], WINDOW, unasked=True)
    assert upload.must_ask  # for its last word
    assert upload.under_way == 0


def test_what_is_told_unasked_calls_nothing_lost_that_may_be_under_way() -> None:
    upload = begun(100, unasked=True)
    send(upload)
    upload.on_unasked([(2, 1), (4, 15)], WINDOW)  # 2 was overtaken by 3
    assert upload.under_way == 5
    assert upload.must_ask
    question = upload.ask()
    assert not upload.must_ask
    assert send(upload) == [8, 9, 10]
    upload.on_unasked([(2, 1), (8, 15)], WINDOW)
    assert not upload.must_ask  # a question about 2 is under way
    assert send(upload) == [11, 12, 13, 14]
    upload.on_credit(question, [(2, 1), (8, 15)], WINDOW, unasked=True)
    assert send(upload) == [2]


def test_of_chunks_behind_the_last_one_listed_nothing_is_known() -> None:
    upload = begun(100, unasked=True)
    send(upload)
    upload.on_unasked([(1, 2)], WINDOW)  # 0 came; of 3 to 7 it doesn't speak
    assert upload.under_way == 7


def test_who_was_not_promised_to_be_told_takes_nothing_unasked() -> None:
    upload = begun(100)
    send(upload)
    upload.on_unasked([(8, 16)], WINDOW)
    assert upload.under_way == WINDOW
    announced = Upload(100 * CHUNK_BYTES)
    announced.ask()
    announced.on_unasked([(0, 16)], WINDOW)
    assert announced.next_chunk is None


def test_what_is_told_unasked_of_another_blob_is_refused() -> None:
    upload = begun(2, unasked=True)
    with pytest.raises(MalformedError):
        upload.on_unasked([(2, 1)], WINDOW)


@given(
    size=st.integers(1, 40),
    window=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.8),
    twice=st.floats(0, 0.8),
    unasked=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_any_loss_repetition_and_reordering_ends_complete(
    size: int, window: int, seed: int, loss: float, twice: float, *, unasked: bool
) -> None:
    """Chunks are lost, doubled, shuffled and delayed past their question; answers are late, but
    come in the end, since questions are repeated; what is told unasked may get lost, and who hears
    nothing asks; sometimes the receiver restarts with nothing. The upload ends, with never more
    than a window under way."""
    chance = random.Random(seed)
    upload, bitmap, air = Upload(size * CHUNK_BYTES), Bitmap(size), list[int]()
    questions = [upload.ask()]
    restarts = 2
    for _ in range(20_000):
        if upload.must_ask or (upload.waits and chance.random() < 0.1):
            questions.append(upload.ask())
        if questions and chance.random() < 0.5:
            if bitmap.complete and upload.under_way == 0:
                return
            missing = bitmap.missing(LISTED_WINDOWS * window)
            upload.on_credit(questions.pop(0), missing, window, unasked=unasked)
        elif unasked and not bitmap.complete and chance.random() < 0.2:
            upload.on_unasked(bitmap.missing(LISTED_WINDOWS * window), window)
        elif (chunk := upload.next_chunk) is not None:
            upload.on_sent()
            assert upload.under_way <= window
            if chance.random() >= loss:
                air += [chunk] * (2 if chance.random() < twice else 1)
            chance.shuffle(air)
        for _ in range(chance.randint(0, len(air))):
            bitmap.add(air.pop())
        if restarts and chance.random() < 0.05:
            restarts -= 1
            bitmap = Bitmap(size)
    raise AssertionError(f"{bitmap.held} of {size} chunks arrived")
