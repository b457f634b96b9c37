"""Rows of token ids: packing, the loss's positions, chat templates, and batches."""

from array import array
from itertools import chain

import pytest
from tokenizers import Tokenizer as Engine

from edge_agent.errors import DataError
from edge_agent.training.batches import batches, padded
from edge_agent.training.data import Example
from edge_agent.training.tokenizer import load_tokenizer
from edge_agent.training.tokens import Encoder, Row, row_lengths
from wire.labels import IGNORED

EOS = 258
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def load(tmp_path, write_tokenizer):
    def load(template=None):
        write_tokenizer(tmp_path, template)
        return Encoder(load_tokenizer(tmp_path))

    return load


@pytest.fixture
def encoder(load):
    return load()


@pytest.fixture
def spelled(tmp_path):
    def spelled(ids):
        engine = Engine.from_file(str(tmp_path / "tokenizer.json"))
        return engine.decode(list(ids), skip_special_tokens=False)

    return spelled


def test_text_is_joined_and_cut_into_full_rows(encoder, spelled):
    rows = encoder.rows([Example(None, "abcde"), Example(None, "fgh"), Example(None, "ij")], 4)
    # abcde</s> fgh</s> ij</s> are 13 tokens: three rows of four, and a last one with nothing to
    # predict, which is left out.
    assert [spelled(row.ids) for row in rows] == ["abcd", "e</s>fg", "h</s>ij"]
    assert all(row.ids == row.labels and row.targets == 3 for row in rows)


def test_with_a_prompt_only_the_response_is_learnt(encoder, spelled):
    (row,) = encoder.rows([Example("ab", "xyz")], 32)
    assert spelled(row.ids) == "ab\nxyz</s>"
    assert list(row.labels) == [IGNORED] * 3 + list(row.ids[3:])
    assert row.labels[-1] == EOS
    assert row.targets == 4


def test_a_chat_template_is_followed_where_there_is_one(load, spelled):
    encoder = load(TEMPLATE)
    (row,) = encoder.rows([Example("ab", "xyz")], 64)
    assert spelled(row.ids) == "<user>ab|<assistant>xyz|"
    learnt = [token for token, label in zip(row.ids, row.labels, strict=True) if label != IGNORED]
    assert spelled(learnt) == "xyz|"


def test_rows_are_the_same_after_the_memory_was_given_back(encoder):
    examples = [Example(None, "abcde"), Example("f", "g")]
    before = encoder.rows(examples, 8)
    encoder.release()
    assert encoder.rows(examples, 8) == before


def test_a_sample_is_cut_at_the_sequence_length(encoder):
    (row,) = encoder.rows([Example("ab", "x" * 50)], 10)
    assert len(row.ids) == len(row.labels) == 10
    assert row.targets == 7


def test_prompts_that_leave_no_room_for_a_response_are_refused(encoder):
    with pytest.raises(DataError, match="within 8 tokens") as caught:
        encoder.rows([Example("MARKER" * 10, "answer")], 8)
    assert "MARKER" not in str(caught.value)


def test_padding_stands_on_the_right_and_has_no_label(encoder):
    ids, labels = padded(encoder.rows([Example("a", "b"), Example("cc", "dd")], 32))
    assert ids.shape == labels.shape == (2, 6)
    letter = ord("b") - ord("!")  # the alphabet of bytes begins with "!"
    assert labels[0].tolist() == [IGNORED, IGNORED, letter, EOS, IGNORED, IGNORED]


def rows_of(numbers, length=2):
    return [Row(array("i", [n] * length), array("i", [n] * length)) for n in numbers]


def drawn(numbers, batch, steps, seed):
    return [ids[:, 0].tolist() for ids, _ in batches(rows_of(numbers), batch, steps, seed)]


def test_every_row_comes_once_before_any_comes_again():
    seen = drawn(range(6), batch=2, steps=6, seed=3)
    assert sorted(chain(*seen[:3])) == sorted(chain(*seen[3:])) == list(range(6))


def test_batches_are_fixed_by_the_seed():
    assert drawn(range(9), 4, 5, seed=1) == drawn(range(9), 4, 5, seed=1)
    assert drawn(range(9), 4, 5, seed=1) != drawn(range(9), 4, 5, seed=2)


def test_a_batch_is_not_larger_than_the_data():
    assert all(sorted(batch) == [0, 1, 2] for batch in drawn(range(3), 16, 2, seed=1))


def test_batches_have_four_lengths_at_most():
    rows = [row for length in range(2, 32) for row in rows_of([0], length)]
    lengths = {ids.shape[1] for ids, _ in batches(rows, 1, 60, seed=3)}
    assert lengths == {8, 16, 24, 31}  # quarters of 31, rounded up


def test_a_short_row_among_full_ones_is_filled_up():
    rows = [*rows_of([1, 2, 4], 64), *rows_of([3], 14)]
    ids, labels = padded(rows[3:], row_lengths(rows))
    assert ids.tolist() == [[3] * 14 + [0] * 50]
    assert labels.tolist() == [[3] * 14 + [IGNORED] * 50]


def test_nothing_is_longer_than_the_longest_row():
    rows = rows_of([1], 30)  # where positions are learned there may be no 31st
    assert padded(rows, row_lengths(rows))[0].shape == (1, 30)
