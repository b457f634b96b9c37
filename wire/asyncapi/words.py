"""What each field means, read from the tables of ``docs/topics.md``.

That page is the one place where fields are explained, and ``tests/test_docs.py`` holds it to the
message types, so the AsyncAPI document takes its words from there.
"""

import re

#: By struct, by field.
Words = dict[str, dict[str, str]]

_HEADING = re.compile(r"^#+ +`(\w+)`$", re.M)
_ANY_HEADING = re.compile(r"^#+ ", re.M)
_ROW = re.compile(r"^\| `(\w+)` \|[^|\n]*\| *(.*?) *\|$", re.M)
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def read_words(page: str) -> Words:
    """Return the meaning of every field that a page of Markdown explains.

    Args:
        page: has a heading for each struct and, below it, a table of field, type and meaning.
    """
    found: Words = {}
    for heading in _HEADING.finditer(page):
        end = _ANY_HEADING.search(page, heading.end())
        section = page[heading.end() : end.start() if end else len(page)]
        rows = _ROW.findall(section)
        found[heading[1]] = {field: _LINK.sub(r"\1", meaning) for field, meaning in rows}
    return found
