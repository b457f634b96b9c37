"""Tokens become text as they come: whole characters only, and nothing behind a stop string.

A character may be cut over several tokens, and what a token says may depend on the one before it;
so a few tokens are decoded together each time, and what is new is told.
"""

from collections.abc import Callable, Sequence

#: What a decoder writes for bytes that are no character, or not one yet.
_BROKEN = "\N{REPLACEMENT CHARACTER}"
#: A character takes at most four bytes, each a token at worst.
_MOST_BYTES = 4


class TextStream:
    """The text of one answer.

    Args:
        text_of: decodes tokens.
        stops: strings at the first of which the text ends, without it.

    Attributes:
        stopped: whether one came.
    """

    def __init__(self, text_of: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self.stopped = False
        self._text_of = text_of
        self._stops = tuple(stop for stop in stops if stop)
        self._tokens: list[int] = []
        self._first = 0  # from where on tokens are decoded together
        self._told = 0  # up to where they were told
        self._held = ""  # what may be the beginning of a stop string

    def add(self, token: int) -> str:
        """Take a token; return the text that it brings, often none."""
        self._tokens.append(token)
        before = self._text_of(self._tokens[self._first : self._told])
        now = self._text_of(self._tokens[self._first :])
        waiting = len(self._tokens) - self._told
        if not now.endswith(_BROKEN):
            self._first, self._told = self._told, len(self._tokens)
            return self._released(now[len(before) :])
        if waiting < _MOST_BYTES:
            return ""
        # The first of so many is no part of a character; the others may still be.
        self._told += 1
        now = self._text_of(self._tokens[self._first : self._told])
        return self._released(now[len(before) :])

    def end(self) -> str:
        """Return what was held back; no token follows."""
        if self.stopped:
            return ""
        before = self._text_of(self._tokens[self._first : self._told])
        rest = self._text_of(self._tokens[self._first :])[len(before) :]
        found = self._released(rest)
        if not self.stopped:
            found, self._held = found + self._held, ""
        return found

    def _released(self, text: str) -> str:
        """Return what of a text can't belong to a stop string."""
        whole = self._held + text
        places = [at for stop in self._stops if (at := whole.find(stop)) >= 0]
        if places:
            self.stopped, self._held = True, ""
            return whole[: min(places)]
        longest = max((_overlap(whole, stop) for stop in self._stops), default=0)
        self._held = whole[len(whole) - longest :]
        return whole[: len(whole) - longest]


def _overlap(text: str, stop: str) -> int:
    """Return how many of a text's last characters are the first ones of a stop string."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
