"""One step of the ONNX bench in a process of its own, whose memory others watch.

``python -m bench.onnx_process export FOLDER GRAPH TYPE`` or ``... serve GRAPH``.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

CONTEXT, SLOTS = 512, 4
_STEPS = 16


class Served(msgspec.Struct, frozen=True):
    """How fast a base was served."""

    load_s: float
    read_per_s: float  # tokens of a long text
    said_per_s: float  # tokens of one text
    said_together_per_s: float  # of all slots


def export(folder: Path, graph: Path, stored: str) -> None:
    """Write a folder's model as a graph."""
    from hub.export.base_type import BaseType
    from hub.export.onnx.base import write_base

    write_base(folder, graph, BaseType(stored), "0" * 64)


def serve(graph: Path) -> Served:
    """Read a text as long as the context allows, go on with it, and with all slots together."""
    from edge_agent.inference.onnx.engine import OnnxEngine

    began = time.monotonic()
    engine = OnnxEngine(graph, threads=2)
    load_s = time.monotonic() - began
    session = engine.open(None, slots=SLOTS, context=CONTEXT)
    ids = np.random.default_rng(7).integers(0, engine.vocabulary, CONTEXT).tolist()
    long = CONTEXT - 2 * _STEPS
    read_s = _seconds(lambda: session.feed({0: ids[:long]}))
    said_s = _seconds(lambda: [session.feed({0: [one]}) for one in ids[:_STEPS]])
    for slot in range(1, SLOTS):
        session.feed({slot: ids[:2]})

    def together() -> None:
        for one in ids[:_STEPS]:
            session.feed({slot: [one] for slot in range(SLOTS)})

    together_s = _seconds(together)
    session.loss(ids, ids)
    return Served(load_s, long / read_s, _STEPS / said_s, SLOTS * _STEPS / together_s)


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        print(msgspec.json.encode(serve(Path(sys.argv[2]))).decode())
