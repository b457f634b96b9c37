"""``tokenizer.json`` made from a vocabulary, its merges, and the rules of `wire.split_rules`."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wire.split_rules import Rules


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
        decoder=spell | {"use_regex": False},
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
    back: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if space_first:
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return _document(
        {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True},
        vocabulary,
        merges,
        added,
        normalizer={"type": "Sequence", "normalizers": steps},
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": back},
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
