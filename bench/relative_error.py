"""``lorikeet-hub aggregate`` against the exact sum in float64, where the true rank is at most R.

Five adapters of ranks 1 to 6, 16 together, with scales and weights of their own; layers of a 1.1B
shape's kinds. The outcome is read from its folder again and compared with dense matrices, so that
neither the truncation's own report nor the code behind it is trusted.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from bench.report import Row, at_most, checked
from bench.sampled import run_sampled
from hub.demo.fleet import command_beside

_RANKS, _R = (1, 2, 3, 4, 6), 16
_WEIGHTS = (3.0, 1.0, 2.5, 0.25, 1.25)
#: (out, in): attention of grouped heads, a square one, both ways through the MLP.
_LAYERS = {"k_proj": (256, 2048), "o_proj": (2048, 2048), "up": (5632, 2048), "down": (2048, 5632)}
_MOST = 1e-5
_SEEDS = (7, 8, 9)
_PREFIX = "base_model.model."

Matrices = Mapping[str, NDArray[np.float64]]
Shapes = Mapping[str, tuple[int, int]]


def relative_error_rows(folder: Path, *, quick: bool) -> list[Row]:
    """Return the greatest error over seeds, and how far the command's own report is from it.

    Args:
        folder: for the adapters and the outcome; made.
        quick: one seed.
    """
    seeds = _SEEDS[:1] if quick else _SEEDS
    found = [error_of(folder / str(seed), seed, _LAYERS, _RANKS) for seed in seeds]
    worst, reported = max(found)
    ranks = ", ".join(str(rank) for rank in _RANKS)
    figure = f"aggregate, ranks {ranks} into R={_R}: relative error to the float64 sum"
    # As text, for such numbers have more digits than rows have.
    return [
        checked(figure, f"{worst:.1e}", "", f"<= {_MOST:g}", worst <= _MOST),
        at_most("the same as the command reports it, over that", reported / worst, "x", 1.1),
    ]


def error_of(folder: Path, seed: int, layers: Shapes, ranks: Sequence[int]) -> tuple[float, float]:
    """Return the relative error of one aggregation to rank 16, and what the command says of it.

    Args:
        folder: made.
        seed: of the adapters' entries.
        layers: (out, in) of each.
        ranks: of the adapters, five at most.
    """
    weights = _WEIGHTS[: len(ranks)]
    rng = np.random.default_rng(seed)
    exact = {name: np.zeros(shape) for name, shape in layers.items()}
    for number, (rank, weight) in enumerate(zip(ranks, weights, strict=True)):
        added = _write(folder / f"adapter-{number}", layers, rank, rng)
        for name, matrix in added.items():
            exact[name] += weight / sum(weights) * matrix
    out = folder / "out"
    command = [command_beside("lorikeet-hub"), "aggregate"]
    command += [str(folder / f"adapter-{number}") for number in range(len(ranks))]
    command += ["--weights", ",".join(str(one) for one in weights), "--rank", str(_R)]
    command += ["--out", str(out), "--json"]
    ran = run_sampled(command, folder / "log", timeout_s=600.0)
    told = msgspec.json.decode(ran.output())["relative_error"]
    made = _added(out, layers)
    away = sum(float(np.square(made[name] - matrix).sum()) for name, matrix in exact.items())
    whole = sum(float(np.square(matrix).sum()) for matrix in exact.values())
    return (away / whole) ** 0.5, float(told)


def _write(folder: Path, layers: Shapes, rank: int, rng: np.random.Generator) -> Matrices:
    """Write an adapter as PEFT does; return what it adds to each layer."""
    folder.mkdir(parents=True)
    tensors = {}
    for name, (out, inputs) in layers.items():
        for factor, shape in (("A", (rank, inputs)), ("B", (out, rank))):
            drawn = rng.standard_normal(shape, dtype=np.float32)
            tensors[f"{_PREFIX}{name}.lora_{factor}.weight"] = drawn
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": rank,
        "lora_alpha": 2 * rank + 1,
        "target_modules": sorted(layers),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return _added(folder, layers)


def _added(folder: Path, layers: Shapes) -> Matrices:
    """Return s B A of each layer of a folder, with PEFT's scale s = alpha / r, in float64."""
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    scale = config["lora_alpha"] / config["r"]
    tensors = load_file(folder / "adapter_model.safetensors")
    found = {}
    for name in layers:
        a, b = (tensors[f"{_PREFIX}{name}.lora_{factor}.weight"] for factor in "AB")
        found[name] = scale * b.astype(np.float64) @ a.astype(np.float64)
    return found
