"""What is left out before training, and what is not."""

import json

import pytest

from edge_agent.training.cleaning import USUAL, Cleaner
from edge_agent.training.data import Example, count, draw, is_held_out
from wire.messages import DataSummary
from wire.work import Cleaning


def faults(*texts, **settings):
    cleaner = Cleaner(Cleaning(**settings))
    return [cleaner.look(None, text).fault for text in texts]


@pytest.mark.parametrize(
    "text", ["a\ufffdb", "a\x00b", "a\x1b[0mb", "caf\x82", "a\x7f", "\ud83d", "a\uffff"]
)
def test_what_an_encoding_has_spoilt_is_garbled(text):
    assert faults(text) == ["garbled"]
    assert Cleaner(USUAL).look(text, "fine").fault == "garbled"


@pytest.mark.parametrize("text", ["a\tb\r\nc\fd\vd", "Ærøskøbing 東京 😀 \ufeffe", "1"])
def test_other_text_is_not(text):
    assert faults(text) == [None]


def test_letters_and_digits_are_counted():
    assert faults("---", "a b!", "", min_letters=1) == ["too_short", None, "too_short"]
    assert faults("a b!", "a b 3", min_letters=3) == ["too_short", None]


def test_the_second_of_two_is_the_duplicate():
    assert faults("The river", "a hill", "the  RIVER") == [None, None, "duplicates"]


def test_other_answers_to_one_question_are_no_duplicates():
    cleaner = Cleaner(Cleaning(near_duplicates=True))
    long = " ".join(f"word{n}" for n in range(200))
    assert [cleaner.look(long, answer).fault for answer in ("yes", "no", "YES")] == [
        None, None, "duplicates",
    ]  # fmt: skip
    assert cleaner.look(None, "yes").fault is None


def test_near_duplicates_go_when_asked_for():
    first = " ".join(f"word{n}" for n in range(200))
    second = first.replace("word100 ", "another ")
    assert faults(first, second) == [None, None]
    assert faults(first, second, near_duplicates=True) == [None, "near_duplicates"]


@pytest.fixture
def folder(tmp_path):
    texts = [f"The  number {n} is here" for n in range(400)]
    lines = [{"text": text} for text in texts + [text.upper() for text in texts[:50]]]
    lines += [{"text": "lost \ufffd"}, {"text": "--"}, {"text": "mail me@example.org or 7"}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\nbroken\n")
    return tmp_path


def test_everything_is_counted(folder):
    held_out = sum(is_held_out(Example(None, f"the number {n} is here")) for n in range(400))
    last = is_held_out(Example(None, "mail me@example.org or 7"))
    assert count([folder]) == DataSummary(
        examples=401, held_out=held_out + last, skipped=1, duplicates=50, too_short=1, garbled=1
    )
    assert count([folder], Cleaning(redact=True)).redacted == 1


def test_both_parts_are_clean_and_share_no_text(folder):
    parts = {part: draw([folder], part, 10**9, seed=1) for part in ("train", "held_out")}
    plain = {part: [e.text.casefold() for e in found] for part, found in parts.items()}
    assert not set(plain["train"]) & set(plain["held_out"])
    both = plain["train"] + plain["held_out"]
    assert len(both) == len(set(both)) == 401


def test_how_a_text_is_spaced_changes_no_side():
    for n in range(100):
        sides = {
            is_held_out(Example("Why?", f"text {n}")),
            is_held_out(Example("why?", f" TEXT\n{n}")),
        }
        assert len(sides) == 1


def test_a_number_is_redacted_before_a_passage_is_cut_within_it(tmp_path):
    # The 1,000th character stands within the number.
    (tmp_path / "a.txt").write_text("word " * 198 + "555 123 4567 " + "word " * 100)
    (found,) = [
        {e.text for e in draw([tmp_path], "train", 10**6, 1, Cleaning(redact=True))}
        | {e.text for e in draw([tmp_path], "held_out", 10**6, 1, Cleaning(redact=True))}
    ]
    assert any("[phone]" in text for text in found)
    assert not any("555" in text or "4567" in text for text in found)
