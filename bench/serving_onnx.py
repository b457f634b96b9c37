"""What ONNX Runtime computes from an export against transformers and PEFT in fp32.

Small random models of each family in float32, through the engine that devices have.
"""

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.report import BenchError, Row, at_least, checked, say, skipped
from bench.serving_logits import Agreement, by_peft, compared
from edge_agent.inference.contract import Adapter, Factors
from edge_agent.inference.errors import EngineError
from edge_agent.inference.onnx.cache import Cache
from edge_agent.inference.onnx.model import OnnxModel
from hub.export.base_type import BaseType
from hub.offline.lora_folder import LoraFolder

_MOST_ERROR, _LEAST_PERCENT = 1e-4, 99.5
_QUICK = ("llama", "gemma2")
_ROWS, _TOKENS = 5, 200  # 1,000 positions


def onnx_rows(*, quick: bool) -> list[Row]:
    """Return two rows for each family.

    Args:
        quick: only two families.

    Raises:
        BenchError: onnxruntime isn't installed, or refuses a file.
    """
    from bench.export_models import FAMILIES

    if find_spec("onnxruntime") is None:
        raise BenchError("onnxruntime isn't installed. Install it: pip install 'lorikeet[onnx]'")
    rows: list[Row] = []
    for family in FAMILIES:
        figure = f"ONNX Runtime, F32 base and adapter, against PEFT in fp32, {family}"
        error, top = f"{figure}: greatest relative error", f"{figure}: same top-1 of 1,000"
        if quick and family not in _QUICK:
            rows.append(skipped(error, "", f"<= {_MOST_ERROR:g}"))
            rows.append(skipped(top, "%", f">= {_LEAST_PERCENT}"))
            continue
        say(f"logits of ONNX Runtime, {family}")
        with tempfile.TemporaryDirectory(prefix="lorikeet-bench-") as folder:
            found = measured(family, Path(folder))
        # As text, for such numbers have more digits than rows have.
        worst, must = f"{found.worst:.1e}", f"<= {_MOST_ERROR:g}"
        rows.append(checked(error, worst, "", must, found.worst <= _MOST_ERROR))
        rows.append(at_least(top, found.percent, "%", _LEAST_PERCENT))
    return rows


def measured(name: str, folder: Path) -> Agreement:
    """Return how near ONNX Runtime with an exported base (F32) and adapter is to PEFT.

    Args:
        name: of `bench.export_models.MODELS`.
        folder: for the files.

    Raises:
        BenchError: ONNX Runtime refuses a file.
    """
    from bench.export_models import MODELS, save_adapter, save_base

    model = save_base(folder / "base", *MODELS[name])
    save_adapter(folder / "adapter", folder / "base")
    rows = np.random.default_rng(1).integers(0, 300, (_ROWS, _TOKENS)).tolist()
    base = exported(folder, BaseType.F32)
    try:
        found = by_onnxruntime(base, adapter_of(folder / "adapter"), rows)
    except EngineError as error:
        raise BenchError(str(error)) from error
    return compared(found, by_peft(model, folder / "adapter", rows))


def exported(folder: Path, stored: BaseType) -> Path:
    """Export ``base`` of a folder; return the graph."""
    from bench.export_models import DIGEST
    from hub.export.onnx.base import write_base

    path = folder / f"base-{stored}.onnx"
    write_base(folder / "base", path, stored, DIGEST)
    return path


def adapter_of(folder: Path, prompt: NDArray[np.float32] | None = None) -> Adapter:
    """Return a PEFT folder's factors, and a soft prompt, as engines take them."""
    factors = LoraFolder(folder)
    pairs = {target: factors.factors(target) for target in factors.shapes}
    return Adapter(
        name="bench",
        factors={target: Factors(pair.a, pair.b) for target, pair in pairs.items()},
        prompt=prompt,
    )


def by_onnxruntime(
    base: Path, adapter: Adapter | None, rows: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """Return ONNX Runtime's logits, (positions of all rows, vocabulary).

    Args:
        base: the graph.
        adapter: without a soft prompt.
        rows: of one length.
    """
    model = OnnxModel(base, threads=1)
    tokens = np.array(rows, dtype=np.int64)
    empty = Cache(model.sizes, len(rows)).past(slice(None))
    made = model.run(
        tokens, [0] * len(rows), empty, model.factors(adapter),
        places=range(tokens.size), whole=tokens.shape[1], keep=False,
    )  # fmt: skip
    return made.logits
