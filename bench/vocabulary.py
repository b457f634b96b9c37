"""A tokenizer of any size: byte-level BPE with as many tokens and merges as a real one has.

A real vocabulary can't be had here, and its size is what costs: rows in the head, and memory for
the tokenizer itself. So merges are made up, from letters as likely as any other, which shortens
English text a little and is loaded, and searched, as a real one is.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from tokenizers import pre_tokenizers

END = "<|endoftext|>"
_LETTERS = "etaoinshrdlucmfwypvbgk"
_LONGEST = 8


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, the last of them `END`; merges, the first to be tried first."""

    tokens: list[str]
    merges: list[tuple[str, str]]


def vocabulary(size: int) -> Vocabulary:
    """Return the vocabulary of a size, the same at every call.

    Args:
        size: how many tokens, at least 257.
    """
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    rng = random.Random(size)
    # "Ġ" is how byte-level BPE writes a space.
    words = [*_LETTERS, "Ġ"]
    known, merges = set(tokens), []
    while len(tokens) < size - 1:
        # Short words twice as often as long ones: real merges build upon one another likewise.
        left = words[int(len(words) * rng.random() ** 2)]
        right = words[int(len(words) * rng.random() ** 2)]
        made = left + right
        if made in known or len(made) > _LONGEST or "Ġ" in right:
            continue
        known.add(made)
        tokens.append(made)
        words.append(made)
        merges.append((left, right))
    return Vocabulary([*tokens, END], merges)


def write_tokenizer(size: int, folder: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` of a vocabulary of a size."""
    made = vocabulary(size)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": size - 1,
                "content": END,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: number for number, token in enumerate(made.tokens)},
            "merges": [" ".join(pair) for pair in made.merges],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "model_max_length": 4096,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
