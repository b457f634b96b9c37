"""Measures this worker: what its libraries weigh, and how fast a step on a small model is.

The models have random weights and a true shape. They are written to a temporary folder and trained
on as any other base, so that whatever a step costs is in the figures.
"""

import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from edge_agent.calibration import NARROW, WIDE, Measured, Speed, kernel_share
from edge_agent.planning.counts import Case, Sizes
from edge_agent.planning.speed import made_bytes, step_flops
from edge_agent.probe.arithmetic import fast_bf16
from edge_agent.probe.process import resident_bytes
from edge_agent.training.adamw import AdamW
from edge_agent.training.blockwise.base import BlockwiseBase
from edge_agent.training.blockwise.dequantise import Expander
from edge_agent.training.blockwise.quantised import FORMATS
from edge_agent.training.code_pages import give_back_code
from edge_agent.training.contract import Trained
from edge_agent.training.heap import trim_heap
from edge_agent.training.start import FreshStart
from wire.messages import JobKnobs
from wire.shape import shape_of, target_modules

_DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
_RANK = 16
#: (rows, tokens): the narrow model's time goes into memory, the wide one's into arithmetic.
_ROWS = {NARROW: (4, 256), WIDE: (1, 256)}
_LAYERS = 2
_STEPS = 3
_EXPANDED = 2**21
#: Of the wide model's step goes into arithmetic, and into memory, in any case.
_LEAST_SHARE = 0.001


def measure(*, wide: bool, import_resident: Callable[[], None] | None) -> Measured:
    """Measure everything there is room for, in some seconds.

    Args:
        wide: whether to train the wide model, too.
        import_resident: imports transformers and PEFT; None: there is no room for them.
    """
    _settle()
    lean_bytes = _resident_bytes()
    kinds = ["bf16", "f32"] if fast_bf16() else ["f32"]
    kernel_bytes: dict[str, int] = {}
    speeds: dict[str, Speed] = {}
    for kind in kinds:
        # The wide model first: what it leaves is then all its own.
        steps = {
            hidden: measure_steps(kind, hidden) for hidden in ([WIDE] if wide else []) + [NARROW]
        }
        first = next(iter(steps))
        kernel_bytes[kind] = int(steps[first][0] / kernel_share(first))
        speeds[kind] = speed_of(kind, {hidden: seconds for hidden, (_, seconds) in steps.items()})
    expand = expand_per_s(_DTYPES[kinds[0]])
    full_bytes = None
    if import_resident is not None:
        # Without the code that importing touches, of which a task uses little (`code_pages`).
        _settle()
        give_back_code()
        before_bytes = _resident_bytes()
        import_resident()
        _settle()
        give_back_code()
        full_bytes = lean_bytes + _resident_bytes() - before_bytes
    return Measured(
        lean_bytes=lean_bytes,
        full_bytes=full_bytes,
        wide=wide,
        kernel_bytes=kernel_bytes,
        speeds=speeds,
        expand_per_s=expand,
    )


def measure_steps(kind: str, hidden: int) -> tuple[int, float]:
    """Train a small model for some steps.

    Args:
        kind: of numbers, ``bf16`` or ``f32``.
        hidden: its width.

    Returns:
        How much more memory is resident afterwards, in bytes, and the seconds of the fastest step.
    """
    _settle()
    before_bytes = _resident_bytes()
    rows, tokens = _ROWS[hidden]
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), calibration_config(hidden), _DTYPES[kind])
        fastest_s = _train(Path(folder), _DTYPES[kind], rows, tokens)
    _settle()
    return max(0, _resident_bytes() - before_bytes), fastest_s


def speed_of(kind: str, seconds: Mapping[int, float]) -> Speed:
    """Return the speed that explains how long the steps on the two models took.

    Args:
        kind: of numbers, ``bf16`` or ``f32``.
        seconds: of a step, by hidden size; with the narrow model's alone, all of it is arithmetic.
    """
    cases = {hidden: calibration_case(hidden, _DTYPES[kind].itemsize) for hidden in seconds}
    flops = {hidden: step_flops(case, "streamed") for hidden, case in cases.items()}
    made = {hidden: made_bytes(case, "streamed") for hidden, case in cases.items()}
    if WIDE not in seconds:
        return Speed(flops_per_s=flops[NARROW] / seconds[NARROW], made_bytes_per_s=1e12)
    # seconds = flops / f + made / m, for both models.
    determinant = flops[NARROW] * made[WIDE] - flops[WIDE] * made[NARROW]
    slow_flop = (seconds[NARROW] * made[WIDE] - seconds[WIDE] * made[NARROW]) / determinant
    # Both have a share in the wide model's time, however badly the clock was disturbed.
    share = slow_flop * flops[WIDE] / seconds[WIDE]
    arithmetic_s = min(max(share, _LEAST_SHARE), 1 - _LEAST_SHARE) * seconds[WIDE]
    return Speed(
        flops_per_s=flops[WIDE] / arithmetic_s,
        made_bytes_per_s=made[WIDE] / (seconds[WIDE] - arithmetic_s),
    )


def expand_per_s(dtype: torch.dtype) -> dict[str, float]:
    """Return how many weights of each kind of a GGUF file are expanded in a second.

    Args:
        dtype: into which type.
    """
    found = {}
    expander = Expander(dtype)
    out = torch.empty(_EXPANDED // WIDE, WIDE, dtype=dtype)
    for kind, form in FORMATS.items():
        raw = torch.zeros(len(out), WIDE // form.block * form.block_bytes, dtype=torch.uint8)
        seconds = []
        for _ in range(_STEPS):
            began = time.perf_counter()
            expander.expand(kind, raw, out)
            seconds.append(time.perf_counter() - began)
        found[kind] = _EXPANDED / min(seconds)
    return found


def calibration_config(hidden: int) -> dict[str, Any]:
    """Return the ``config.json`` of a model that steps are measured on."""
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": 11 * hidden // 4,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": hidden // 64,
        "num_key_value_heads": hidden // 256,
        "vocab_size": 4096,
        "tie_word_embeddings": True,
    }


def calibration_case(hidden: int, number_bytes: int) -> Case:
    """Return the same as the planner sees it."""
    rows, tokens = _ROWS[hidden]
    knobs = JobKnobs(
        method="lora",
        rank=_RANK,
        min_rank=_RANK,
        batch=rows,
        min_batch=rows,
        seq_len=tokens,
        min_seq_len=tokens,
    )
    shape = shape_of(calibration_config(hidden), number_bytes)
    return Case(shape, knobs, Sizes(_RANK, rows, tokens), number_bytes)


def _train(folder: Path, dtype: torch.dtype, rows: int, tokens: int) -> float:
    base = BlockwiseBase(folder, dtype)
    try:
        start = FreshStart(base.targets, _RANK, 0, base.hidden_size, 0)
        placed = base.place(start, Trained(rank=_RANK))
        optimizer = AdamW(placed.trained.values(), 0.0)
        ids = torch.arange(rows * tokens).remainder(4096).view(rows, tokens)
        placed.evaluate_loss(ids, ids, "adapter")
        seconds = []
        for _ in range(_STEPS):
            began = time.perf_counter()
            placed.backward_loss(ids, ids)
            optimizer.step(lr=1e-3, clip=1.0)
            seconds.append(time.perf_counter() - began)
        return min(seconds)
    finally:
        base.clear()
        base.close()


def _write(folder: Path, config: Mapping[str, Any], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = config["hidden_size"]
    shapes = {f"{name}.weight": shape for name, shape in target_modules(config).items()}
    shapes["model.embed_tokens.weight"] = (config["vocab_size"], hidden)
    tensors = {
        name: (torch.randn(shape, generator=generator) * 0.02).to(dtype)
        for name, shape in shapes.items()
    }
    for index in range(_LAYERS):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{index}.{norm}.weight"] = torch.ones(hidden, dtype=dtype)
    tensors["model.norm.weight"] = torch.ones(hidden, dtype=dtype)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def _settle() -> None:
    gc.collect()
    trim_heap()


def _resident_bytes() -> int:
    return resident_bytes(os.getpid()) or 0
