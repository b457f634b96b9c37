"""Every number that the spine promises: ``python -m bench.spine [--quick] [--json]``.

The demo's own losses, time and memory; the federation against each device alone; an idle agent's
memory; the hub's memory with few and with many devices. Exit code 1 if a demand isn't met.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench.alone import alone_rows
from bench.demo_run import demo_rows, repeat_rows, run_demo
from bench.hub_memory import hub_memory_rows
from bench.idle_agent import idle_rows
from bench.report import BenchError, Row, exit_code, say, show
from hub.broker import BrokerError
from hub.errors import HubError
from wire.errors import WireError

_SEED = 7


def measure(folder: Path, *, quick: bool) -> list[Row]:
    """Return all rows.

    Args:
        folder: for everything that is made on the way.
        quick: run the demo once, on the cached base, and train a single device alone.

    Raises:
        BenchError, BrokerError, HubError, WireError: something could not be measured at all.
    """
    # A cache of our own, so that the first run has to train the base as on a new machine.
    cache = None if quick else folder / "cache"
    first = run_demo(folder, "first", _SEED, cache)
    rows = demo_rows(first, cold=not quick)
    second = None if quick else run_demo(folder, "second", _SEED, cache)
    rows += repeat_rows(first, second)
    base = Path(first.summary.job["model"]["base"])
    rows += alone_rows(first, folder / "alone", quick=quick)
    rows += idle_rows(folder / "idle", base, quick=quick)
    return rows + hub_memory_rows(folder / "hub", base)


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.spine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one demo run, one device alone")
    parser.add_argument("--json", action="store_true", help="print one JSON list of rows")
    parser.add_argument(
        "--keep", type=Path, help="an empty folder for all files, not to be deleted"
    )
    arguments = parser.parse_args()
    say(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    try:
        with tempfile.TemporaryDirectory(prefix="lorikeet-bench-") as made:
            folder = Path(arguments.keep or made).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            rows = measure(folder, quick=arguments.quick)
    except (BenchError, BrokerError, HubError, WireError) as error:
        say(str(error))
        return 1
    show("The spine", rows, as_json=arguments.json)
    say(f"load of the machine: {os.getloadavg()[0]:.1f}")
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
