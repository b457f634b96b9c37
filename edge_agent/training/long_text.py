"""Long text in pieces that a tokenizer takes one by one, with the same ids as in one go.

A tokenizer holds some 170 bytes for each character that it works on [measured, tokenizers 0.23], so
one line of a megabyte would cost more than the vocabulary.
"""

import re
from collections.abc import Callable

PIECE_CHARACTERS = 16 * 1024

_LINE = "a\n"
#: Where no known rule joins what stands on the two sides: after a single newline, else before a
#: single space. (Runs of white space are cut in different ways by different rules.)
_LINE_END = re.compile(r"(?<=\S)\n(?=\S)")
_WORD_START = re.compile(r"(?<=\S)(?= \S)")


def encode_long(encode: Callable[[str], list[int]], text: str) -> list[int]:
    """Return the ids of a text of any length.

    They are those of ``encode(text)``, unless there are thousands of characters without any white
    space: there a token may be cut in two.

    Args:
        encode: text to ids.
        text: any.
    """
    if len(text) <= PIECE_CHARACTERS:
        return encode(text)
    # Some tokenizers begin every text with a space: a line of its own takes it, and is cut off.
    line = encode(_LINE)
    ids: list[int] = []
    start = 0
    while start < len(text):
        end = _cut(text, start)
        piece = text[start:end]
        if start:
            piece_ids = encode(_LINE + piece)
            begins = piece_ids[: len(line)] == line
            ids += piece_ids[len(line) :] if begins else encode(piece)
        else:
            ids += encode(piece)
        start = end
    return ids


def _cut(text: str, start: int) -> int:
    """Return where the piece that begins at ``start`` ends."""
    limit = start + PIECE_CHARACTERS
    if len(text) <= limit:
        return len(text)
    for boundary in (_LINE_END, _WORD_START):
        ends = [
            found.end() for found in boundary.finditer(text, limit - PIECE_CHARACTERS // 2, limit)
        ]
        if ends:
            return ends[-1]
    return limit
