"""A tiny model with a tokenizer of bytes as GGUF, adapters for it, and its greedy answers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_agent.inference.contract import Adapter, Factors
from hub.export.base_type import BaseType
from hub.export.gguf.base import write_base
from wire.model_file import config_of
from wire.shape import target_modules

DIGEST = "cd" * 32
#: Says whose turn it is, and shows where a system's words went.
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def write_model(base: Path, folder: Path) -> Path:
    """Write a base's folder as a GGUF file, with its tokenizer inside; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_base(base, folder / "base.gguf", BaseType.F16, DIGEST)
    return folder / "base.gguf"


def random_adapter(base: Path, seed: int, rank: int = 4) -> Adapter:
    """Return an adapter of all linear layers that changes every answer."""
    rng = np.random.default_rng(seed)
    factors = {}
    for target, (out, inputs) in target_modules(config_of(base)).items():
        a = rng.normal(size=(rank, inputs)) / np.sqrt(inputs)
        b = rng.normal(size=(out, rank)) * 0.3
        factors[target] = Factors(a.astype(np.float32), b.astype(np.float32))
    return Adapter(f"adapter-{seed}", factors)


def greedy(
    file: Path, adapter: Adapter | None, ids: Sequence[int], most: int, *, sure: float = 0.0
) -> list[int]:
    """Return the likeliest continuation, a token at a time, by an engine of its own.

    Args:
        file: of the model.
        adapter: on it.
        ids: to be continued.
        most: tokens.
        sure: ends where the second choice is nearer than this, over the greatest logit: sums are
            rounded otherwise where several sequences are computed together.
    """
    from edge_agent.inference.llama.engine import LlamaEngine

    engine = LlamaEngine(file)
    session = engine.open(adapter, slots=1, context=len(ids) + most)
    found: list[int] = []
    tokens = list(ids)
    for _ in range(most):
        logits = session.feed({0: tokens})[0]
        second, first = np.sort(logits)[-2:]
        if first - second < sure * np.abs(logits).max():
            break
        found.append(int(logits.argmax()))
        tokens = found[-1:]
    engine.close()
    return found
