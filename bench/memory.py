"""Every number of the memory ladder: ``python -m bench.memory [--part P] [--quick] [--json]``.

The streamed rungs against PEFT, the gradients, the planner's predictions, real memory limits, an
idle agent. It needs root, for cgroups. Exit code 1 if a demand isn't met.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from bench.gradients import gradient_rows
from bench.idle_agent import idle_rows
from bench.limits import limit_rows
from bench.local_agent import LocalAgent
from bench.model_files import ModelFiles
from bench.planner_rows import planner_rows
from bench.report import BenchError, Row, exit_code, failed, say, show
from bench.shapes import LLAMA_TINY
from bench.streaming import streaming_rows
from hub.broker import BrokerError
from hub.errors import HubError
from wire.errors import WireError

_IDLE_MB, _IDLE_AIM_MB = 45.0, 30.0


PARTS = ("streaming", "gradients", "planner", "limits", "idle")


def measure(
    folder: Path, models: ModelFiles, *, quick: bool, wanted: Collection[str] = PARTS
) -> list[Row]:
    """Return all rows; a part that fails is a row that says so, and the others go on.

    Args:
        folder: for everything that is made on the way, models aside.
        models: where the models are, or will be.
        quick: small shapes, and fewer of them.
        wanted: of `PARTS`.
    """
    parts: dict[str, Callable[[], list[Row]]] = {
        "streaming": lambda: streaming_rows(
            models, LocalAgent(folder / "streaming"), folder / "peft", quick=quick
        ),
        "gradients": gradient_rows,
        "planner": lambda: planner_rows(models, LocalAgent(folder / "planner"), quick=quick),
        "limits": lambda: limit_rows(models, folder / "limits", quick=quick),
        "idle": lambda: idle_rows(
            folder / "idle",
            models.path(LLAMA_TINY, "bf16"),
            quick=quick,
            limit_mb=_IDLE_MB,
            aim_mb=_IDLE_AIM_MB,
        ),
    }
    return [row for name in PARTS if name in wanted for row in _rows(name, parts[name])]


def _rows(name: str, part: Callable[[], list[Row]]) -> list[Row]:
    say(f"--- {name}")
    try:
        rows = part()
    except (BenchError, BrokerError, HubError, WireError) as error:
        say(str(error))
        return [failed(name, "measured")]
    show(name, rows, as_json=False, to_stderr=True)
    return rows


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small shapes, and fewer of them")
    parser.add_argument("--json", action="store_true", help="print one JSON list of rows")
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="only this; may be given more than once"
    )
    parser.add_argument("--cache", type=Path, help="where the models are written, about 8 GB")
    parser.add_argument("--keep", action="store_true", help="don't delete the models at the end")
    arguments = parser.parse_args()
    # What Ctrl-C ends in good order, kill must, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    cache = Path(arguments.cache or tempfile.gettempdir()).absolute()
    models = ModelFiles(cache / "lorikeet-bench-models")
    try:
        with tempfile.TemporaryDirectory(prefix="lorikeet-bench-") as folder:
            rows = measure(
                Path(folder), models, quick=arguments.quick, wanted=arguments.part or PARTS
            )
    except KeyboardInterrupt:
        return 130
    finally:
        if not arguments.keep:
            models.clear()
    show("The memory ladder", rows, as_json=arguments.json)
    say(f"load of the machine: {os.getloadavg()[0]:.1f}")
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
