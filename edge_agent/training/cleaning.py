"""Which texts are left out before training, and why; only counts of them are ever told."""

import hashlib
import re
from itertools import islice
from typing import Literal, NamedTuple

from edge_agent.training.duplicates import Duplicates, normalised
from wire.work import Cleaning

#: Why a text is left out: as fields of `wire.messages.DataSummary`.
Fault = Literal["skipped", "garbled", "too_short", "duplicates", "near_duplicates"]

#: What stands where characters were lost: Unicode's mark for that, control characters but for tabs
#: and ends of lines and pages, halves of characters, and what is none.
_GARBLED = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd-\uffff\ud800-\udfff]")


#: Duplicates and garbled text go, everything else stays as it is.
USUAL = Cleaning()


class Looked(NamedTuple):
    """What came of a look at a text.

    Attributes:
        digest: of what makes it this text and no other.
        fault: why it is left out, or None.
    """

    digest: bytes
    fault: Fault | None


class Cleaner:
    """Looks at one text after the other, in bounded memory.

    Args:
        cleaning: what counts as a fault.
    """

    def __init__(self, cleaning: Cleaning) -> None:
        self._least = cleaning.min_letters
        self._before = Duplicates(near=cleaning.near_duplicates)

    def look(self, prompt: str | None, text: str) -> Looked:
        """Return a text's digest, and what is wrong with it.

        Args:
            prompt: None for plain text. With one, only the same pair again is a duplicate: many
                answers to nearly the same long question are what is to be learnt.
            text: the response, where there is a prompt.
        """
        plain = normalised(text)
        digest = digest_of(prompt, plain)
        return Looked(digest, self._fault(prompt, text, plain, digest))

    def _fault(self, prompt: str | None, text: str, plain: str, digest: bytes) -> Fault | None:
        if _GARBLED.search(text) or (prompt is not None and _GARBLED.search(prompt)):
            return "garbled"
        letters = filter(str.isalnum, plain)
        if sum(1 for _ in islice(letters, self._least)) < self._least:
            return "too_short"
        if self._before.is_same(digest):
            return "duplicates"
        if prompt is None and self._before.is_near(plain):
            return "near_duplicates"
        return None


def digest_of(prompt: str | None, plain: str) -> bytes:
    """Return the digest of a text, however it is spaced and capitalised.

    Args:
        prompt: as it is, or None.
        plain: the text as `normalised` leaves it.
    """
    content = normalised(prompt or "") + "\0" + plain
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()
