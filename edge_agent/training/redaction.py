"""Takes e-mail addresses, phone and card numbers out of text before anything else sees it.

It finds what is written as such things usually are, and nothing more: names and addresses stay. A
card's number has 13 to 19 digits of which the last one checks (ISO/IEC 7812-1, Luhn's formula); a
phone's has 7 to 15 (ITU-T E.164).
"""

import re

EMAIL, CARD, PHONE = "[email]", "[card]", "[phone]"

#: Lengths are bounded so that no text takes more than a few looks at each of its characters.
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_CARD = re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){12,30}(?!\w)")
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
_PHONE = re.compile(
    r"(?<![\w.,/+-])(?:"
    r"\+\d[\d .\-/()]{5,22}\d"  # +49 (30) 1234-567
    r"|\(\d{2,5}\)[ .\-/]?\d[\d .\-/]{3,14}\d"  # (555) 123-4567
    r"|\d{3}[ .\-]\d{3}[ .\-]\d{4}"  # 555-123-4567
    r"|0\d{1,5}[ /\-]\d[\d \-/]{3,14}\d"  # 030 1234567
    r")(?!\w)"
)
_DIGITS = re.compile(r"\D+")
_GROUP = re.compile(r"\d+")
_CARD_DIGITS, _PHONE_DIGITS = range(13, 20), range(7, 16)
#: As they are printed: four, and a short last one at most.
_CARD_GROUPS = 5


class Redactor:
    """Replaces what it finds by a word for it.

    Attributes:
        count: how many were found.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, text: str) -> str:
        """Return the text without addresses and numbers."""
        if "@" in text:
            text = _EMAIL.sub(self._email, text)
        text = _CARD.sub(self._card, text)
        return _PHONE.sub(self._phone, text)

    def _email(self, _: re.Match[str]) -> str:
        self.count += 1
        return EMAIL

    def _card(self, match: re.Match[str]) -> str:
        """Replace the longest run of groups that is a card's number; other digits may be beside."""
        text = match[0]
        groups = [group.span() for group in _GROUP.finditer(text)]
        runs = [
            (start, end)
            for i, (start, _) in enumerate(groups)
            for _, end in groups[i : i + _CARD_GROUPS]
            if end - start >= _CARD_DIGITS.start
        ]
        for start, end in sorted(runs, key=lambda run: run[0] - run[1]):
            if is_card(text[start:end]):
                self.count += 1
                return text[:start] + CARD + text[end:]
        return text

    def _phone(self, match: re.Match[str]) -> str:
        text = match[0]
        if len(_DIGITS.sub("", text)) not in _PHONE_DIGITS or _DATE.fullmatch(text):
            return text
        self.count += 1
        return PHONE


def is_card(text: str) -> bool:
    """Return whether digits, separators left out, are a card's number by length and last digit."""
    digits = [int(digit) for digit in _DIGITS.sub("", text)]
    if len(digits) not in _CARD_DIGITS or not any(digits):
        return False
    # Every second digit from the right counts twice, its own two digits added up.
    twice = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(twice)) % 10 == 0
