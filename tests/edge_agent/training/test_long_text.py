"""Long text in pieces: the ids of the whole."""

import re

import pytest

from edge_agent.training.long_text import PIECE_CHARACTERS, encode_long

LINES = "\n".join(
    f"line {number} says: word, word  word!\n\n  (indented)" for number in range(2000)
)


def words(text):
    """Cut as GPT-2 does, in outline: runs of white space end before the last of them."""
    pieces = re.findall(r" ?\w+| ?[^\s\w]+|\s+(?!\S)|\s+", text)
    return [hash(piece) for piece in pieces]


def spaced(text):
    """Begin each text with a space, as SentencePiece does."""
    return words(" " + text)


@pytest.mark.parametrize("encode", [words, spaced])
@pytest.mark.parametrize(
    "text",
    [
        LINES,
        LINES.replace("\n", " "),
        LINES.replace("\n", "\n\n"),
        LINES[: PIECE_CHARACTERS + 1],
        "word " * PIECE_CHARACTERS,
        "a\n" * PIECE_CHARACTERS,
    ],
)
def test_pieces_have_the_ids_of_the_whole(encode, text):
    assert encode_long(encode, text) == encode(text)


def test_no_piece_is_longer_than_it_may_be():
    seen = []

    def encode(text):
        seen.append(len(text))
        return words(text)

    encode_long(encode, LINES)
    assert max(seen) <= PIECE_CHARACTERS + 2  # and the short line before it
    assert len(seen) > len(LINES) / PIECE_CHARACTERS


def test_short_text_goes_through_at_once():
    seen = []
    encode_long(lambda text: seen.append(text) or [], "x" * PIECE_CHARACTERS)
    assert seen == ["x" * PIECE_CHARACTERS]


def test_text_without_any_space_is_cut_all_the_same():
    text = "x" * (3 * PIECE_CHARACTERS)
    assert encode_long(list, text) == list(text)
