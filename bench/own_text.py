"""What a hub's own text costs a round beside its steps: ``python -m bench.own_text [--json]``.

A hub starts a worker in each round. Here one does a task of a single step at the size of the demo's
base, with the process new and then with it warm; both are taken three times.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.report import Row, exit_code, show, told
from hub.demo.base import Recipe, cached_base, topics_text
from hub.hash_cache import HashCache
from hub.jobs import parse_job
from hub.models import load_model
from hub.own_text.worker import Worker
from hub.rounds.adapters import Adapters
from hub.rounds.job_run import start_manifest
from wire.blobs import BlobStore
from wire.messages import LocalWork
from wire.work import Work

_TIMES = 3
_LIMIT_S = 300.0


def measure(folder: Path) -> list[Row]:
    """Return the rows: seconds until the end of one step."""
    base = cached_base(recipe=Recipe(steps=1))  # times don't depend on what it knows
    text = folder / "public.txt"
    text.write_text("\n\n".join(topics_text()))
    file = parse_job(f"job: j\nmodel: {{base: {base}}}\n")
    adapters = Adapters(BlobStore(folder / "blobs"))
    start = adapters.begin(
        start_manifest(file, load_model(str(base), HashCache(folder / "hashes"))), 7, "raw"
    )
    task = Work(
        task="bench", role="lora", rung="streamed", rank=file.lora.rank,
        base_folder=str(base), manifest=str(adapters.files(start)["manifest"]),
        parts={name: str(path) for name, path in adapters.wholes(start).items()},
        data=[str(text)], hold_out=False, codec="raw", out=str(folder), batch=4, seq_len=256,
        work=LocalWork(steps=1, batch=4, seq_len=256, optimizer="adamw", lr=1e-3, seed=1),
    )  # fmt: skip
    found: dict[str, list[float]] = {"new": [], "warm": [], "load": []}
    for _ in range(_TIMES):
        worker = None
        for state in ("new", "warm"):
            began = time.monotonic()
            worker = worker or Worker(folder / "worker.log")
            done = worker.do(task, _LIMIT_S)
            found[state].append(time.monotonic() - began)
            if state == "new" and done.train is not None:
                found["load"].append(done.train.load_s)
        if worker is not None:
            worker.close()
    return [
        told("a new worker: start to end of one step", statistics.median(found["new"]), "s"),
        told("of that: base, adapter and text", statistics.median(found["load"]), "s"),
        told("a warm worker: the same", statistics.median(found["warm"]), "s"),
    ]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    show("a hub's own text", rows, as_json=options.json)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
