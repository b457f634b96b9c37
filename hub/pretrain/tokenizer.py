"""Byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909; Radford et al. 2019) from public text."""

import json
from collections.abc import Iterable
from pathlib import Path

#: Begin with the special tokens: their ids don't depend on the text.
PAD, BOS, EOS = 0, 1, 2
SPECIAL = ("<pad>", "<s>", "</s>")
#: Every byte has a token of its own, so that no text is unknown.
LEAST_TOKENS = 256 + len(SPECIAL)


def train_tokenizer(texts: Iterable[str], vocabulary: int, folder: Path, positions: int) -> int:
    """Train a tokenizer and write it as `AutoTokenizer` reads it.

    The same texts give the same bytes, on every machine.

    Args:
        texts: of any length.
        vocabulary: tokens, bytes and special ones included; little text may have fewer.
        folder: an existing folder.
        positions: the longest sequence of the model, in tokens.

    Returns:
        The number of tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": SPECIAL[PAD],
        "bos_token": SPECIAL[BOS],
        "eos_token": SPECIAL[EOS],
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return int(tokenizer.get_vocab_size())
