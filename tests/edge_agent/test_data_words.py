"""Counts of text in words."""

from edge_agent.data_words import cleaned_words, counted_words
from wire.messages import DataSummary


def test_what_is_not_there_is_not_told() -> None:
    data = DataSummary(examples=40, held_out=3, skipped=0)
    assert counted_words(data) == "40 examples, 3 of them held out"
    assert cleaned_words(data) == ""


def test_each_count_has_its_words() -> None:
    data = DataSummary(
        examples=40, held_out=3, skipped=2, duplicates=5, near_duplicates=1, too_short=4, garbled=6,
        redacted=7,
    )  # fmt: skip
    assert counted_words(data) == (
        "40 examples, 3 of them held out; 2 broken lines are skipped; left out: 5 duplicates, "
        "1 near duplicates, 4 too short, 6 garbled; 7 addresses and numbers are redacted"
    )
    only = DataSummary(examples=1, held_out=0, skipped=0, redacted=1)
    assert cleaned_words(only) == "1 addresses and numbers are redacted"
