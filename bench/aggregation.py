"""A hundred updates of a 1.1B shape become the next adapter: how long, and in how much memory.

The updates are TinyLlama's linear layers at rank 16, raw, 50 MB each, around a product that all
have in common. They are made once. What is measured is the hub's own `combine_round`, in a process
of its own with the hub's settings: from blobs on disk to the packed adapter in the store.

Run as a program (``python -m bench.aggregation``), it is that process.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

import msgspec
import numpy as np

from bench.report import BenchError, Row, at_most, below, say, told
from bench.sampled import Ran, run_sampled
from bench.shapes import LLAMA_1B, LLAMA_TINY, Shape
from edge_agent.probe.process import peak_bytes
from hub.aggregation.basis import seed_of
from hub.aggregation.contract import Array, Factors, FactorsUpdate, Slice, Trained
from hub.aggregation.rules import product_rule
from hub.aggregation.slices import SlicedFactors
from hub.aggregation.strategies import configured
from hub.rounds.actions import Combine
from hub.rounds.adapters import Adapters
from hub.rounds.combining import combine_round
from hub.rounds.state import Update
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.manifest import AdapterManifest, TargetShape
from wire.messages import TrainMetrics
from wire.shape import target_modules
from wire.tensors import write_packed

_RANK = 16
_FEW, _MANY = 10, 100
_LAYER_COUNTS = (5, 20, 100)
_MOST_S, _MOST_MB, _APART = 60.0, 1000.0, 20.0
#: What is a device's own in an update, beside what all have in common.
_OWN = 0.5
_TIMEOUT_S = 1800.0
#: Free bytes wanted for each byte of an update: the sums of layers rest on the disk, too.
_ROOM = 1.2
_LIST = "updates.json"


class Made(msgspec.Struct, frozen=True):
    """What was made: the adapter that devices started from, and their updates, all in one store."""

    start: str
    updates: list[str]
    size_bytes: int


class Measured(msgspec.Struct, frozen=True):
    """What one combination took."""

    seconds: float
    processor_s: float
    peak_bytes: int


def aggregation_rows(folder: Path, kept: Path, *, quick: bool) -> list[Row]:
    """Return seconds and peak memory of combining many updates, and of few.

    Args:
        folder: for logs.
        kept: for the updates, 5 GB; those that are there are used again.
        quick: a small shape; then nothing is demanded.
    """
    store = kept / ("tiny" if quick else "1.1b")
    made = make_updates(store, LLAMA_TINY if quick else LLAMA_1B, _MANY)
    found = {count: _combined(store, count, folder / str(count)) for count in (_FEW, _MANY)}
    for measured, ran in found.values():
        say(f"{measured} others {ran.others_percent:.0f} %")
    few, (many, ran) = found[_FEW][0], found[_MANY]
    name = "tiny" if quick else "1.1B"
    mb = made.size_bytes / len(made.updates) / 1e6
    seconds = f"{_MANY} updates of rank {_RANK}, {name} shape, {mb:.0f} MB each: seconds"
    peak = f"{_MANY} updates: peak memory of the process"
    apart = abs(many.peak_bytes / few.peak_bytes - 1.0) * 100.0
    rows = [
        told(f"{_FEW} updates: seconds", few.seconds, "s"),
        told(f"{_FEW} updates: peak memory of the process", few.peak_bytes / 1e6, "MB"),
        told(f"{_MANY} updates: processor seconds, all threads", many.processor_s, "s"),
        told("other programs' share of the cores meanwhile", ran.others_percent, "%"),
    ]
    for count in _LAYER_COUNTS:
        layer, _ = _combined(store, count, folder / f"layer-{count}", layer=True)
        rows.append(told(f"its largest layer alone, {count} updates", layer.processor_s, "s"))
    if quick:
        return [told(seconds, many.seconds, "s"), told(peak, many.peak_bytes / 1e6, "MB"), *rows]
    return [
        at_most(seconds, many.seconds, "s", _MOST_S),
        at_most(peak, many.peak_bytes / 1e6, "MB", _MOST_MB),
        *rows,
        below(f"peak memory: {_MANY} against {_FEW} updates", apart, "%", _APART),
    ]


def make_updates(folder: Path, shape: Shape, count: int) -> Made:
    """Return the updates in a folder's store, which are made if they aren't there.

    Args:
        folder: for them.
        shape: of the model that they are of.
        count: of devices.

    Raises:
        BenchError: the disk has too little room.
    """
    place = folder / _LIST
    if place.exists():
        return msgspec.json.decode(place.read_bytes(), type=Made)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"making {count} updates")
    manifest = AdapterManifest(
        job="aggregation",
        round=0,
        base="0" * 64,
        rank=_RANK,
        tokens=0,
        shapes={
            path: TargetShape(outputs=out, inputs=inputs)
            for path, (out, inputs) in target_modules(shape.config).items()
        },
        hidden_size=shape.config["hidden_size"],
        parts=[],
    )
    shapes = manifest.expected_lora(_RANK)
    needed = count * sum(4 * prod(one) for one in shapes.values()) * _ROOM
    room = os.statvfs(folder)
    if room.f_bavail * room.f_frsize < needed:
        raise BenchError(f"{folder} has less than {needed / 1e9:.1f} GB free.")
    store = BlobStore(folder / "blobs")
    start = Adapters(store).begin(manifest, 7, "auto")
    common = {name: _drawn(shape, seed_of(0, name)) for name, shape in shapes.items()}
    updates, size_bytes = [], 0
    for device in range(count):
        tensors = {
            name: _OWN * _drawn(shape, seed_of(device + 1, name)) + common[name]
            for name, shape in shapes.items()
        }
        with store.draft(
            lambda file, given=tensors: write_packed(
                file, shapes, given.__getitem__, by_name("raw"), seed=0
            )
        ) as draft:
            size_bytes += draft.stat().st_size
            updates.append(store.put_file(draft))
    made = Made(start, updates, size_bytes)
    place.write_bytes(msgspec.json.encode(made))
    return made


def _drawn(shape: tuple[int, ...], seed: int) -> Array:
    """Return a change of a factor, about as large as ten steps of AdamW make it."""
    drawn: Array = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    drawn *= np.float32(3e-3)
    return drawn


def _combined(
    store: Path, count: int, folder: Path, *, layer: bool = False
) -> tuple[Measured, Ran]:
    """Combine the first updates, or a layer of them, in a process of its own."""
    command = [sys.executable, "-m", "bench.aggregation", str(store), str(count)]
    command += ["--layer"] if layer else []
    threads = {"OPENBLAS_NUM_THREADS": "1"}  # as `hub` sets it, before numpy is imported
    ran = run_sampled(command, folder, timeout_s=_TIMEOUT_S, environment={**os.environ, **threads})
    return msgspec.json.decode(ran.output().splitlines()[-1], type=Measured), ran


def combine_layer(folder: Path, count: int) -> Measured:
    """Combine the largest layer of the first updates, on this thread; return what it took."""
    made, store = _opened(folder)
    current = Adapters(store).load(made.start)
    shapes = current.manifest.shapes
    target = max(shapes, key=lambda name: shapes[name].inputs * shapes[name].outputs)

    def read(slices: Sequence[Slice]) -> Factors:
        with SlicedFactors(current.manifest, slices) as factors:
            return factors.factors(target)

    paths = [store.path(sha256) for sha256 in made.updates[:count]]
    updates = [FactorsUpdate(1.0, read([Slice(path, _RANK)])) for path in paths if path]
    whole = read(current.lora)
    began_s, used_s = time.monotonic(), time.process_time()
    product_rule("stack_svd").combine(whole, updates)
    seconds, processor_s = time.monotonic() - began_s, time.process_time() - used_s
    return Measured(seconds, processor_s, peak_bytes(os.getpid()) or 0)


def _opened(folder: Path) -> tuple[Made, BlobStore]:
    made = msgspec.json.decode((folder / _LIST).read_bytes(), type=Made)
    return made, BlobStore(folder / "blobs")


def combine(folder: Path, count: int) -> Measured:
    """Combine the first updates of a folder's store in this process; return what it took."""
    made, store = _opened(folder)
    adapters, before = Adapters(store), set(store.all())
    action = Combine(round=1, start=made.start, updates=tuple(_accepted(made, count)))
    began_s, used_s = time.monotonic(), time.process_time()
    combine_round(
        store,
        adapters,
        action,
        rule="stack_svd",
        strategy=configured("fedavg", {}),
        trained=lambda one, at: Trained(one.device, one.tokens, one.staleness(at)),
        codec="auto",
    )
    seconds, processor_s = time.monotonic() - began_s, time.process_time() - used_s
    for sha256 in set(store.all()) - before:
        store.delete(sha256)
    return Measured(seconds, processor_s, peak_bytes(os.getpid()) or 0)


def _accepted(made: Made, count: int) -> Iterator[Update]:
    metrics = TrainMetrics(
        steps=10, tokens=1000, loss_first=1.0, loss_last=1.0, seconds_per_step=1.0
    )
    for number, sha256 in enumerate(made.updates[:count]):
        yield Update(
            device=f"device-{number:03}",
            round=1,
            start=made.start,
            sha256=sha256,
            size_bytes=made.size_bytes // len(made.updates),
            role="lora",
            rank=_RANK,
            tokens=1000,
            steps=10,
            train=metrics,
            download_s=0.0,
            upload_s=0.0,
            peak_bytes=0,
        )


def main() -> None:
    """Print what a combination took, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.aggregation", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--layer", action="store_true", help="the largest layer alone")
    arguments = parser.parse_args()
    work = combine_layer if arguments.layer else combine
    taken = work(arguments.folder, arguments.count)
    sys.stdout.write(json.dumps(msgspec.to_builtins(taken)) + "\n")


if __name__ == "__main__":
    main()
