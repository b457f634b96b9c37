"""How text is cut before bytes or letters are merged: the rules that a vocabulary alone lacks.

GGUF files name them in ``tokenizer.ggml.pre``. The expressions are those of the models' own
``tokenizer.json``; ``default`` is what llama.cpp takes for a file that names none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

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


def bytes_document(
    vocabulary: Mapping[str, int],
    merges: Sequence[str],
    rules: Rules,
    added: Sequence[Mapping[str, Any]] = (),
) -> bytes:
    """Return the ``tokenizer.json`` of a byte-level vocabulary.

    Args:
        vocabulary: ids by tokens, bytes spelled as GPT-2 spells them.
        merges: two tokens with a space between them, the best first.
        rules: the family's.
        added: as in ``tokenizer.json``.
    """
    cuts: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}
        for split in rules.splits
    ]
    spell = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return _document(
        {"ignore_merges": rules.whole_words},
        vocabulary,
        merges,
        added,
        normalizer={"type": "NFC"} if rules.nfc else None,
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*cuts, spell | {"use_regex": False}]},
    )


def pieces_document(
    vocabulary: Mapping[str, int],
    merges: Sequence[str],
    unknown: str | None,
    added: Sequence[Mapping[str, Any]] = (),
    *,
    space_first: bool = True,
) -> bytes:
    """Return the ``tokenizer.json`` of a SentencePiece vocabulary that falls back on bytes.

    Args:
        vocabulary: ids by tokens, with U+2581 for a space.
        merges: two tokens with a space between them, the best first.
        unknown: the token for what the vocabulary can't spell.
        added: as in ``tokenizer.json``.
        space_first: whether a text gets a space in front.
    """
    steps: list[dict[str, Any]] = [{"type": "Prepend", "prepend": "▁"}] if space_first else []
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    return _document(
        {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True},
        vocabulary,
        merges,
        added,
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer=None,
    )


def _document(
    model: Mapping[str, Any],
    vocabulary: Mapping[str, int],
    merges: Sequence[str],
    added: Sequence[Mapping[str, Any]],
    **steps: Any,
) -> bytes:
    # Merges in the older form, "a b": as pairs they would cost the parser twice the memory.
    model = {"type": "BPE", **model, "vocab": vocabulary, "merges": merges}
    return msgspec.json.encode({"version": "1.0", "added_tokens": added, **steps, "model": model})
