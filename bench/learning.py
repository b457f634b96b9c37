"""Every number of learning: ``python -m bench.learning [--part P] [--quick] [--json] [--keep]``.

How much of central training's gain federations reach, rule by rule; how fast and exact updates are
combined; DiLoCo against a gradient exchange in every step. Exit code 1 if a demand isn't met.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

# One thread in each process, as several run at once; read when torch and numpy are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bench.aggregation import aggregation_rows
from bench.learning_base import base_for
from bench.learning_plots import write_plots
from bench.learning_rates import search
from bench.learning_rows import (
    QUICK_RATES,
    RULES,
    Plan,
    Rates,
    alone_rows,
    gap_rows,
    rules_rows,
)
from bench.learning_runs import Setting, measure_all
from bench.pretraining import pretraining_rows
from bench.relative_error import relative_error_rows
from bench.report import BenchError, Row, exit_code, failed, say, show
from hub.errors import HubError
from wire.errors import WireError

SEEDS = (7, 8, 9)
DATA = Path(__file__).parent.parent.parent / "shared" / "data"
PARTS = ("gap", "alone", "rules", "pretrain", "aggregation", "error")


class Bench:
    """The parts, on one set of folders.

    Args:
        folder: for logs and what is made on the way.
        kept: for bases, updates and outcomes.
        data: with a folder of the institutes in it, and of public text.
        plots: for pictures.
        quick: one seed and fewer, smaller rounds.
    """

    def __init__(self, folder: Path, kept: Path, data: Path, plots: Path, *, quick: bool) -> None:
        self._folder, self._kept, self._data, self._plots = folder, kept, data, plots
        self._quick = quick
        self._rules: Sequence[str] = RULES
        self._found: Rates | None = None
        self._rate_rows: list[Row] = []

    def measure(self, wanted: Collection[str]) -> list[Row]:
        """Return the rows of some parts; one that fails is a row that says so."""
        self._rules = RULES if "rules" in wanted else RULES[:1]
        return [row for name in PARTS if name in wanted for row in self._rows(name)]

    def _rows(self, name: str) -> list[Row]:
        say(f"--- {name}")
        try:
            rows = self._part(name)
        except (BenchError, HubError, WireError) as error:
            say(str(error))
            return [failed(name, "measured")]
        show(name, rows, as_json=False, to_stderr=True)
        return rows

    def _part(self, name: str) -> list[Row]:
        if name == "aggregation":
            place = self._kept / "updates"
            return aggregation_rows(self._folder / name, place, quick=self._quick)
        if name == "error":
            return relative_error_rows(self._folder / name, quick=self._quick)
        seeds = SEEDS[:1] if self._quick else SEEDS
        if name == "pretrain":
            return pretraining_rows(self._folder / name, self._data, seeds, quick=self._quick)
        setting, outcomes = self._setting(), self._kept / "outcomes"
        plan = Plan(setting, seeds, self._rates(setting, outcomes))
        runs = {"gap": plan.gap_runs, "alone": plan.alone_runs, "rules": plan.rules_runs}[name]()
        found = measure_all(setting, runs, outcomes)
        if name == "rules":
            for place in write_plots(plan, found, self._plots):
                say(f"picture: {place}")
        rows = {"gap": gap_rows, "alone": alone_rows, "rules": rules_rows}[name](plan, found)
        told_before, self._rate_rows = self._rate_rows, []
        return [*told_before, *rows]

    def _rates(self, setting: Setting, outcomes: Path) -> Rates:
        """Return each kind of run's rate, which is searched for once."""
        if self._quick:
            return QUICK_RATES
        if self._found is None:
            self._found, self._rate_rows = search(
                setting, self._rules, lambda runs: measure_all(setting, runs, outcomes)
            )
        return self._found

    def _setting(self) -> Setting:
        bases = self._kept / "bases"
        bases.mkdir(parents=True, exist_ok=True)
        base = base_for(self._data, bases)
        medical = str((self._data / "medical").resolve())
        if self._quick:
            return Setting(base=str(base), data=medical, rounds=2, steps=4, held_out=12, glance=4)
        return Setting(base=str(base), data=medical)


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.learning", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, fewer and smaller rounds")
    parser.add_argument("--json", action="store_true", help="print one JSON list of rows")
    parser.add_argument(
        "--part",
        choices=PARTS,
        action="append",
        help="only this; may be given more than once",
    )
    parser.add_argument("--data", type=Path, default=DATA, help="has medical/ and education/")
    parser.add_argument("--plots", type=Path, help="folder for the pictures; named if it isn't")
    parser.add_argument(
        "--keep", action="store_true", help="keep base, updates and outcomes, and take those kept"
    )
    arguments = parser.parse_args()
    # What Ctrl-C ends in good order, kill must, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    folder = Path(tempfile.mkdtemp(prefix="lorikeet-bench-"))
    kept = Path(tempfile.gettempdir()) / "lorikeet-bench-learning" if arguments.keep else folder
    plots = arguments.plots or Path(tempfile.gettempdir()) / "lorikeet-bench-plots"
    bench = Bench(folder, kept, arguments.data, plots, quick=arguments.quick)
    try:
        rows = bench.measure(arguments.part or PARTS)
    except KeyboardInterrupt:
        return 130
    finally:
        if arguments.keep:
            say(f"kept: {folder} and {kept}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    show("Learning", rows, as_json=arguments.json)
    say(f"load of the machine: {os.getloadavg()[0]:.1f}")
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
