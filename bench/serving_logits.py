"""What llama.cpp computes from an export against transformers and PEFT in fp32.

Small random models of each family in bfloat16, as models are published; F16 holds that exactly.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.report import BenchError, Row, at_least, at_most, say, skipped
from hub.export.base_type import BaseType

_MOST_ERROR, _LEAST_PERCENT = 1e-2, 99.5
_QUICK = ("llama", "gemma2")
_ROWS, _TOKENS = 5, 200  # 1,000 positions
CONTEXT = 256


@dataclass(frozen=True)
class Agreement:
    """How near two engines' logits are.

    Attributes:
        worst: greatest difference at a position over the greatest logit there, of all positions.
        percent: of positions where both have the same greatest logit.
    """

    worst: float
    percent: float


def logit_rows(*, quick: bool) -> list[Row]:
    """Return two rows for each family.

    Args:
        quick: only two families.

    Raises:
        BenchError: llama-cpp-python isn't installed, or refuses a file.
    """
    from bench.export_models import FAMILIES

    if find_spec("llama_cpp") is None:
        raise BenchError("llama-cpp-python isn't installed. Build it once: make llama")
    rows: list[Row] = []
    for family in FAMILIES:
        figure = f"llama.cpp, F16 base and adapter, against PEFT in fp32, {family}"
        error, top = f"{figure}: greatest relative error", f"{figure}: same top-1 of 1,000"
        if quick and family not in _QUICK:
            rows.append(skipped(error, "", f"<= {_MOST_ERROR}"))
            rows.append(skipped(top, "%", f">= {_LEAST_PERCENT}"))
            continue
        say(f"logits of llama.cpp, {family}")
        with tempfile.TemporaryDirectory(prefix="lorikeet-bench-") as folder:
            found = measured(family, Path(folder))
        rows.append(at_most(error, found.worst, "", _MOST_ERROR))
        rows.append(at_least(top, found.percent, "%", _LEAST_PERCENT))
    return rows


def measured(name: str, folder: Path) -> Agreement:
    """Return how near llama.cpp with an exported base (F16) and adapter is to PEFT.

    Args:
        name: of `bench.export_models.MODELS`.
        folder: for the files.

    Raises:
        BenchError: llama.cpp refuses a file.
    """
    import torch

    from bench.export_models import MODELS, save_adapter, save_base

    model = save_base(folder / "base", *MODELS[name], dtype=torch.bfloat16)
    save_adapter(folder / "adapter", folder / "base")
    rows = np.random.default_rng(1).integers(0, 300, (_ROWS, _TOKENS)).tolist()
    files = exported(folder, BaseType.F16)
    wanted = by_peft(model, folder / "adapter", rows)
    return compared(by_llama_cpp(*files, rows), wanted)


def exported(folder: Path, stored: BaseType) -> tuple[Path, Path]:
    """Export ``base`` and ``adapter`` of a folder; return the two files."""
    from bench.export_models import DIGEST
    from hub.export.gguf.adapter import write_adapter
    from hub.export.gguf.base import write_base

    base, adapter = folder / f"base-{stored}.gguf", folder / "adapter.gguf"
    write_base(folder / "base", base, stored, DIGEST)
    write_adapter(folder / "adapter", folder / "base", adapter, DIGEST)
    return base, adapter


def by_llama_cpp(
    base: Path, adapter: Path | None, rows: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """Return llama.cpp's logits, (positions of all rows, vocabulary)."""
    from bench.llama_engine import LlamaCpp

    with LlamaCpp(base, adapter, CONTEXT) as engine:
        return np.concatenate([engine.logits(row) for row in rows])


def by_peft(model: Any, adapter: Path, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Return the logits of transformers with PEFT, (positions of all rows, vocabulary)."""
    import torch
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(model, str(adapter)).eval()
    with torch.no_grad():
        found = tuned(torch.tensor(rows)).logits.float()
    return found.flatten(0, 1).numpy()


def compared(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> Agreement:
    """Return how near logits are to those that are right, each (positions, vocabulary)."""
    errors = np.abs(found - wanted).max(axis=1) / np.abs(wanted).max(axis=1)
    same = found.argmax(axis=1) == wanted.argmax(axis=1)
    return Agreement(worst=float(errors.max()), percent=100.0 * float(same.mean()))
