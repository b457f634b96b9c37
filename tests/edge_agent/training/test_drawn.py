"""The rows of a task, and those that it is measured on."""

import json
from pathlib import Path

import pytest

from edge_agent.training.data import Example, is_held_out
from edge_agent.training.drawn import all_rows, held_out_rows, training_rows
from edge_agent.training.tokenizer import load_tokenizer
from edge_agent.training.tokens import Encoder, Row
from wire.messages import LocalWork


@pytest.fixture
def encoder(llama: Path) -> Encoder:
    return Encoder(load_tokenizer(llama))


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """Return the file of as many texts as are needed for some to be held out."""
    (tmp_path / "my.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    return [str(tmp_path / "my.jsonl")]


TEXTS = [f"<{n:03}>" for n in range(200)]
HELD_OUT = {text for text in TEXTS if is_held_out(Example(None, text))}


def work(steps: int, seed: int = 1) -> LocalWork:
    return LocalWork(steps=steps, batch=2, seq_len=24, optimizer="adamw", lr=1e-3, seed=seed)


def found(rows: list[Row]) -> set[str]:
    """Return the texts that stand whole in rows: their tokens are bytes, and one for the end."""
    text = " ".join("".join(chr(i) if i < 128 else "" for i in _bytes(row)) for row in rows)
    return {known for known in TEXTS if known in text}


def _bytes(row: Row) -> list[int]:
    # The tests' tokenizer counts its letters in the order of GPT-2's table of bytes.
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    return [ord(letters[i]) for i in row.ids if i < 256]


def test_training_and_held_out_rows_have_no_text_in_common(
    encoder: Encoder, texts: list[str]
) -> None:
    trained = found(training_rows(encoder, texts, work(100)))
    held_out = found(held_out_rows(encoder, texts, 24))
    assert trained
    assert held_out
    assert not trained & HELD_OUT
    assert held_out <= HELD_OUT


def test_a_text_that_nothing_is_held_out_of_is_used_whole(
    encoder: Encoder, texts: list[str]
) -> None:
    assert HELD_OUT
    # Rows cut a text here and there, at other places in another order.
    trained = found(training_rows(encoder, texts, work(1000), hold_out=False))
    measured = found(all_rows(encoder, texts, 24))
    assert trained & HELD_OUT
    assert trained - HELD_OUT
    assert measured & HELD_OUT
    assert measured - HELD_OUT
    rows = all_rows(encoder, texts, 24)
    assert sum(len(row.ids) for row in rows) == sum(len(text) + 1 for text in TEXTS)
    assert rows == all_rows(encoder, texts, 24), "losses of two rounds can be compared"


def test_a_task_draws_about_as_much_as_it_needs(encoder: Encoder, texts: list[str]) -> None:
    few, many = (training_rows(encoder, texts, work(steps)) for steps in (1, 100))
    # One step of 2 x 24 tokens: at most 5 characters each, in texts of 5 and an end.
    assert 2 <= len(few) <= 2 * 5 * 6 / 5 + 1
    assert len(many) > 2 * len(few)


def test_the_seed_chooses_what_is_trained_on_and_not_what_is_measured(
    encoder: Encoder, texts: list[str]
) -> None:
    one, other = (training_rows(encoder, texts, work(1, seed)) for seed in (1, 2))
    assert [row.ids for row in one] != [row.ids for row in other]
    first, again = (held_out_rows(encoder, texts, 24) for _ in range(2))
    assert [row.ids for row in first] == [row.ids for row in again]


def test_without_held_out_text_there_are_no_rows(encoder: Encoder, tmp_path: Path) -> None:
    kept = next(text for text in TEXTS if text not in HELD_OUT)
    (tmp_path / "one.txt").write_text(kept)
    assert held_out_rows(encoder, [str(tmp_path / "one.txt")], 24) == []
