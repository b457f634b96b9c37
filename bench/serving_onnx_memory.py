"""Memory and speed of a base of true size on ONNX Runtime: random weights serve.

The engine's process has the environment of a worker, whose malloc gives freed memory back.
"""

import sys
import tempfile
from pathlib import Path

import msgspec

from bench.model_files import ModelFiles
from bench.onnx_process import CONTEXT, SLOTS, Served
from bench.report import MIB, Row, at_most, say, told
from bench.sampled import run_sampled
from bench.shapes import LLAMA_1B, LLAMA_TINY
from wire.worker_start import worker_environment

_STORED = "q4"
_TIMEOUT_S = 900.0
_MOST = 1.75


def onnx_memory_rows(*, quick: bool) -> list[Row]:
    """Return what an export and an engine take.

    Args:
        quick: a shape of 40M in place of 1.1B, of which nothing is demanded.

    Raises:
        BenchError: there is no room, or a step fails.
    """
    shape = LLAMA_TINY if quick else LLAMA_1B
    with tempfile.TemporaryDirectory(prefix="lorikeet-bench-") as temporary:
        folder = Path(temporary)
        base = ModelFiles(folder / "models").path(shape, "bf16")
        graph = folder / f"base-{_STORED}.onnx"
        command = [sys.executable, "-m", "bench.onnx_process"]
        say(f"export of {shape.name}")
        made = run_sampled(
            [*command, "export", base, graph, _STORED], folder / "export", timeout_s=_TIMEOUT_S
        )
        made.output()
        say(f"serving {shape.name}")
        ran = run_sampled(
            [*command, "serve", graph], folder / "serve",
            timeout_s=_TIMEOUT_S, environment=worker_environment(2),
        )  # fmt: skip
        served = msgspec.json.decode(ran.output(), type=Served)
        size_bytes = graph.with_name(f"{graph.name}.data").stat().st_size
    name = f"ONNX Runtime, {shape.name} in {_STORED}"
    over = f"{name}, {SLOTS} slots of {CONTEXT} tokens: peak memory over the file's size"
    ratio = ran.largest.vmhwm_bytes / size_bytes
    return [
        told(
            f"export of {shape.name} to {_STORED}: peak memory",
            _mib(made.largest.vmhwm_bytes),
            "MiB",
        ),
        told(f"{name}: the file", _mib(size_bytes), "MiB"),
        told(over, ratio, "x") if quick else at_most(over, ratio, "x", _MOST),
        told(
            f"{name}: of that the process's own (anonymous)",
            _mib(ran.largest.anonymous_bytes),
            "MiB",
        ),
        told(f"{name}: loading", served.load_s, "s"),
        told(f"{name}: reading a text", served.read_per_s, "tokens/s"),
        told(f"{name}: saying one", served.said_per_s, "tokens/s"),
        told(f"{name}: saying {SLOTS} together", served.said_together_per_s, "tokens/s"),
    ]


def _mib(size_bytes: int) -> float:
    return size_bytes / MIB
