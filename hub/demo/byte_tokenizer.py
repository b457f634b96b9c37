"""A tokenizer whose tokens are the bytes of UTF-8, in a form that every loader knows."""

import json
from pathlib import Path
from typing import Any

PAD, BOS, EOS = 256, 257, 258
VOCAB_SIZE = 259  # 256 bytes and three special tokens


def save_byte_tokenizer(folder: Path, positions: int) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` for `AutoTokenizer`.

    Args:
        folder: an existing Hugging Face model folder.
        positions: the longest sequence of the model, in tokens.
    """
    tokenizer().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def tokenizer() -> Any:
    """Return a `tokenizers.Tokenizer` in which token i is byte i.

    Built as byte-level BPE without merges. It splits nothing and adds nothing (no ``<s>`` of
    its own), so any text comes back exactly.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {letter: byte for byte, letter in enumerate(letters_of_bytes())}
    built = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([AddedToken(name, special=True) for name in ("<pad>", "<s>", "</s>")])
    return built


def letters_of_bytes() -> list[str]:
    """Return the printable letter that byte-level tokenizers write for each byte.

    Bytes that print stand for themselves; the others follow from U+0100 on. The table is the
    one of GPT-2 (Radford et al., 2019), which `tokenizers` has built in.
    """
    prints = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in prints]
    letters = {byte: chr(byte) for byte in prints}
    letters |= {byte: chr(0x100 + place) for place, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]
