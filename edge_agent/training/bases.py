"""Opens a base model in the way that a rung wants it."""

from pathlib import Path

import torch

from edge_agent.probe.arithmetic import compute_bytes, fast_bf16
from edge_agent.training.contract import Base
from edge_agent.training.heap import keep_freed
from edge_agent.training.share import ALONE, Share
from wire.errors import WireError
from wire.model_file import config_of, stored_bytes
from wire.shape import FAMILIES, shape_of

#: These rungs hold the whole base in memory, through transformers and PEFT.
RESIDENT = ("resident", "checkpointed")

#: `edge_agent.training.heap.keep_freed`. Autograd over a whole model keeps many tensors of all
#: sizes, and a heap that kept what is freed between them peaked at 411 MB for 166 MB [measured].
_RESIDENT_HEAP = (128 * 1024, 128 * 1024)
#: One block at a time leaves few tensors alive, and small ones cost most page faults: keeping what
#: is below 2 MiB takes 10 to 24 MB more and about the time of keeping it up to 8 MiB (1.06 s of
#: processor time a step in place of 1.49 s at hidden size 2048), which took 50 MB more, and at four
#: rows 190 MB, as glibc's heap fragments [measured].
_BLOCKWISE_HEAP = (2 * 1024 * 1024, 1024 * 1024)


def kind_of(rung: str) -> str:
    """Return how a rung holds the base: two rungs of one kind can share it."""
    return rung if rung in RESIDENT else "blockwise"


def open_base(path: Path, rung: str, share: Share = ALONE) -> Base:
    """Open a base model for a rung.

    A model of another family than `FAMILIES` is streamed on every rung: what the rungs that hold
    the base know of heads and layers is theirs.

    Args:
        path: a Hugging Face folder; for the block-wise rungs also a GGUF file.
        rung: of the memory ladder.
        share: of a base in memory, this process may get only a part.

    Raises:
        ModelError: it can't be used.
    """
    resident = rung in RESIDENT and not _is_other(path)
    keep_freed(*(_RESIDENT_HEAP if resident else _BLOCKWISE_HEAP))
    # Late imports: transformers and PEFT weigh 120 MB, which the other rungs never pay.
    if resident:
        from edge_agent.training.base import load_base

        checkpointed = rung == "checkpointed"
        return load_base(path, dtype=compute_dtype(path), checkpointed=checkpointed, share=share)
    from edge_agent.training.blockwise.base import BlockwiseBase

    return BlockwiseBase(path, compute_dtype(path))


def _is_other(path: Path) -> bool:
    try:
        return config_of(path).get("model_type") not in FAMILIES
    except WireError:
        return False  # whoever opens it says what is wrong with it


def compute_dtype(path: Path) -> torch.dtype:
    """Return the type of weights and activations in memory for a base's file."""
    try:
        stored = stored_bytes(path) / shape_of(config_of(path), 4).parameters
    except WireError:
        return torch.float32  # whoever opens it says what is wrong with it
    return torch.bfloat16 if compute_bytes(stored, bf16=fast_bf16()) == 2 else torch.float32
