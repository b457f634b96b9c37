"""How text is cut before bytes or letters are merged: the rules that a vocabulary alone lacks.

GGUF files name them in ``tokenizer.ggml.pre``. The expressions are those of the models' own
``tokenizer.json``; ``default`` is what llama.cpp takes for a file that names none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_WITH_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SMALL = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
_CAPITAL = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"


@dataclass(frozen=True)
class Rules:
    """One model family's rules.

    Attributes:
        splits: regular expressions; each cuts what the ones before left.
        nfc: whether text is brought into Unicode's composed form first.
        whole_words: whether a piece that is a token is taken as it is, without merging.
        adds_bos: whether the family's texts begin with the begin-of-text token.
    """

    splits: tuple[str, ...]
    nfc: bool = False
    whole_words: bool = False
    adds_bos: bool = False


_LLAMA3 = Rules((rf"{_SHORT}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}",), whole_words=True, adds_bos=True)

#: By their names in GGUF files.
RULES = {
    "default": Rules((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "gpt-2": Rules((_GPT2,)),
    "smollm": Rules((r"\p{N}", _GPT2)),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "dbrx": Rules(_LLAMA3.splits),
    "qwen2": Rules((rf"{_SHORT}|{_LETTERS}|\p{{N}}|{_REST}",), nfc=True),
    "tekken": Rules(
        (rf"{_SMALL}|{_CAPITAL}|\p{{N}}|{_REST_WITH_SLASH}",), whole_words=True, adds_bos=True
    ),
    "gpt-4o": Rules((rf"{_SMALL}{_SHORT}?|{_CAPITAL}{_SHORT}?|\p{{N}}{{1,3}}|{_REST_WITH_SLASH}",)),
}


def merges_of(tokens: Sequence[str]) -> Iterator[str]:
    """Yield every two tokens that make a third, in the order of the third.

    SentencePiece joins the neighbours whose union scores best. As merges by rank that is every way
    to cut each token in two; Hugging Face's converters do the same.

    Args:
        tokens: the best first.
    """
    whole = set(tokens)
    for token in tokens:
        for cut in range(len(token) - 1, 0, -1):
            left, right = token[:cut], token[cut:]
            # A merge is written with a space between, so there can be none inside.
            if left in whole and right in whole and " " not in token:
                yield f"{left} {right}"
