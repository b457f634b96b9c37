"""Every number of serving: ``python -m bench.serving [--part P] [--quick] [--json]``.

Exit code 1 if a demand isn't met.
"""

import argparse
import sys
from collections.abc import Callable, Collection

from bench.forward_only import forward_rows
from bench.report import BenchError, Row, exit_code, failed, say, show
from bench.serving_logits import logit_rows
from wire.errors import WireError

PARTS = ("logits", "forward")


def measure(*, quick: bool, wanted: Collection[str] = PARTS) -> list[Row]:
    """Return all rows; a part that fails is a row that says so, and the others go on."""
    parts: dict[str, Callable[[], list[Row]]] = {
        "logits": lambda: logit_rows(quick=quick),
        "forward": lambda: forward_rows(quick=quick),
    }
    return [row for name in PARTS if name in wanted for row in _rows(name, parts[name])]


def _rows(name: str, part: Callable[[], list[Row]]) -> list[Row]:
    say(f"--- {name}")
    try:
        return part()
    except (BenchError, WireError) as error:
        say(str(error))
        return [failed(name, "measured")]


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--json", action="store_true", help="print one JSON list of rows")
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="only this; may be given more than once"
    )
    arguments = parser.parse_args()
    rows = measure(quick=arguments.quick, wanted=arguments.part or PARTS)
    show("Serving", rows, as_json=arguments.json)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
