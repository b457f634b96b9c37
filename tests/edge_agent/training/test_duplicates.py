"""The same text again, and nearly the same: counted by hand and against exact Jaccard."""

import random
import tracemalloc

import pytest

from edge_agent.training.duplicates import (
    LEAST_RUNS,
    MOST_TEXTS,
    Duplicates,
    Prints,
    bands,
    normalised,
)

WORDS = [f"w{n}" for n in range(5000)]


def text(seed, words=150):
    return random.Random(seed).choices(WORDS, k=words)


def jaccard(a, b):
    first, second = ({tuple(x[i : i + 3]) for i in range(len(x) - 2)} for x in (a, b))
    return len(first & second) / len(first | second)


def changed(words, number, seed):
    """Return a copy with so many words replaced by others that are in no text."""
    found = list(words)
    for place in random.Random(seed).sample(range(len(words)), number):
        found[place] = f"other{place}"
    return found


def share_found(number):
    """Return how many of 200 changed texts are found, and their mean Jaccard."""
    hits, total = 0, 0.0
    for seed in range(200):
        before = text(seed)
        after = changed(before, number, seed)
        found = Duplicates(near=True)
        assert not found.is_near(" ".join(before))
        hits += found.is_near(" ".join(after))
        total += jaccard(before, after)
    return hits / 200, total / 200


@pytest.mark.parametrize("number", [0, 1, 6, 20, 100])
def test_the_chance_to_be_found_is_the_formulas(number):
    share, mean = share_found(number)
    expected = 1 - (1 - mean**8) ** 4
    # Standard deviation of 200 draws: at most 0.035; Jaccard's own spread adds a little.
    assert share == pytest.approx(expected, abs=0.12)


def test_unlike_texts_are_not_taken_for_one():
    found = Duplicates(near=True)
    assert not any(found.is_near(" ".join(text(seed))) for seed in range(2000))


def test_short_texts_have_no_bands():
    assert list(bands(" ".join(WORDS[: LEAST_RUNS + 1]))) == []
    assert len(list(bands(" ".join(WORDS[: LEAST_RUNS + 2])))) == 4


def test_nothing_near_is_looked_for_unless_asked():
    found = Duplicates(near=False)
    assert not any(found.is_near(" ".join(text(1))) for _ in range(2))


@pytest.mark.parametrize(
    "other", ["The  river\n", " the river", "THE RIVER", "the\tri\u200bver".replace("\u200b", "")]
)
def test_case_and_spaces_make_no_other_text(other):
    assert normalised(other) == "the river"


def test_forms_of_letters_make_no_other_text():
    assert normalised("Stra\u00dfe \ufb01n") == normalised("STRASSE fin")
    assert normalised("e\u0301") == normalised("\u00e9")


def test_a_set_of_numbers_is_a_set():
    rng = random.Random(1)
    numbers = [rng.randrange(2**64) for _ in range(5000)] + [0, 1024, 2048, 2**64 - 1]
    found = Prints(10_000)
    assert all(found.add(number) for number in numbers)
    assert not any(found.add(number) for number in numbers)


def test_a_full_set_remembers_the_first_and_no_more():
    found = Prints(3)
    assert [found.add(n) for n in (5, 6, 7, 8)] == [True] * 4
    assert [found.add(n) for n in (5, 6, 7, 8)] == [False, False, False, True]


def test_memory_is_bounded():
    tracemalloc.start()
    found = Prints(MOST_TEXTS // 16)
    for number in range(1, MOST_TEXTS // 8):
        found.add(number * 0x9E3779B97F4A7C15 % 2**64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 2¹⁴ numbers of 8 bytes in a table that is a quarter full or more, and the one before.
    assert peak < 8 * 2**14 * (4 + 2) + 20_000
