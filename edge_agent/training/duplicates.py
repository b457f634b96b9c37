"""Texts that were there before: the same but for case and spaces, or nearly so.

Nearly the same: most runs of three words in common, by one-permutation min-wise hashing (Broder,
1997; Li, Owen and Zhang, 2012, arXiv 1208.1259; empty bins as Shrivastava and Li, 2014, arXiv
1406.4784) in bands. Two texts that share a part J of their runs (Jaccard) are taken for one with a
chance of 1 - (1 - J⁸)⁴: 99 % for J = 0.96 (one word of 150 is another), 52 % for 0.8, 2 % for 0.5.
"""

import hashlib
import unicodedata
import zlib
from array import array
from collections.abc import Iterator

#: Texts that are remembered, in a table of 4 MiB; of those that come behind, none is.
MOST_TEXTS = 2**18
#: Fewer runs of words say little: only the same text is found then.
LEAST_RUNS = 64
_BANDS, _ROWS = 4, 8
_BINS = _BANDS * _ROWS
_FIRST_SLOTS = 1024
_WORD = 2**32 - 1
#: Knuth's multiplier: CRCs of similar words are similar in their upper bits.
_MIX = 2654435761


def normalised(text: str) -> str:
    """Return a text without what makes no other text of it: case, spaces, forms of letters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class Prints:
    """A set of 64-bit numbers in one array of open addresses, half full at most.

    Args:
        most: further ones are not remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))

    def add(self, number: int) -> bool:
        """Remember a number; return whether it is new."""
        number = number or 1  # 0 is an empty slot
        at = self._place(number)
        if self._slots[at]:
            return False
        if self._count < self._most:
            self._slots[at] = number
            self._count += 1
            if 2 * self._count > len(self._slots):
                self._grow()
        return True

    def _place(self, number: int) -> int:
        """Return where a number stands, or would."""
        slots, mask = self._slots, len(self._slots) - 1
        at = number & mask
        while slots[at] not in (0, number):
            at = (at + 1) & mask
        return at

    def _grow(self) -> None:
        before = self._slots
        self._slots = array("Q", bytes(2 * 8 * len(before)))
        for number in before:
            if number:
                self._slots[self._place(number)] = number


class Duplicates:
    """Texts in their order, each compared with all before it.

    Args:
        near: whether texts that are nearly the same are looked for, too.
    """

    def __init__(self, *, near: bool) -> None:
        self._same = Prints(MOST_TEXTS)
        self._near = Prints(MOST_TEXTS * _BANDS) if near else None

    def is_same(self, digest: bytes) -> bool:
        """Return whether a text was there before.

        Args:
            digest: of what is left of it when `normalised`, 8 bytes or more.
        """
        return not self._same.add(int.from_bytes(digest[:8], "big"))

    def is_near(self, plain: str) -> bool:
        """Return whether nearly the same text was there before; False if that isn't looked for.

        Args:
            plain: as `normalised` leaves it.
        """
        if self._near is None:
            return False
        found = [self._near.add(band) for band in bands(plain)]
        return not all(found)


def bands(plain: str) -> Iterator[int]:
    """Yield a number for each band; texts that share one are taken for nearly the same.

    Args:
        plain: as `normalised` leaves it; a short one has no bands.
    """
    words = plain.split(" ")
    runs = zip(words, words[1:], words[2:], strict=False)
    hashes = {zlib.crc32(" ".join(run).encode("utf-8", "surrogatepass")) for run in runs}
    if len(hashes) < LEAST_RUNS:
        return
    least = [_WORD + 1] * _BINS
    for one in hashes:
        mixed = one * _MIX & _WORD
        at = mixed % _BINS
        least[at] = min(least[at], mixed)
    filled = [value for value in least if value <= _WORD]
    following = filled[0]
    for at in range(_BINS - 1, -1, -1):  # an empty bin takes the value of the next one
        if least[at] > _WORD:
            least[at] = following
        following = least[at]
    for band in range(_BANDS):
        values = array("Q", [band, *least[band * _ROWS : (band + 1) * _ROWS]])
        yield int.from_bytes(hashlib.blake2b(values.tobytes(), digest_size=8).digest(), "big")
