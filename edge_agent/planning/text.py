"""What text costs: the tokenizer while it is loaded, and what stays of it."""

from wire.messages import ModelShape

#: The tokenizer's library, the rows of a task, what the parser leaves behind [measured, tokenizers
#: 0.23, byte-level BPE of 32,000 and 151,936 tokens].
KEPT_BYTES = 8_000_000
_LOADING_BYTES = 7_000_000
_LOADING_BYTES_PER_TOKEN = 400


def loading_bytes(shape: ModelShape) -> int:
    """Return what a vocabulary takes while it is parsed; it is given back before training."""
    return _LOADING_BYTES + _LOADING_BYTES_PER_TOKEN * shape.vocab_size
