"""Every number of the wire: ``python -m bench.wire [--part P] [--quick] [--json] [--keep]``.

Bytes per device and round, the broadcast's egress, an idle device, an upload that is cut, the
hub's memory, goodput, and a bad link. Parts that need network namespaces need root. Exit code 1
if a demand isn't met.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from bench.big_updates import big_update_rows
from bench.network import NotHereError
from bench.report import BenchError, Row, exit_code, failed, say, show, told
from bench.small_base import SmallBases
from bench.wire_bytes import bytes_rows
from bench.wire_cut import cut_rows
from bench.wire_egress import egress_rows
from bench.wire_goodput import goodput_rows
from bench.wire_idle import idle_link_rows
from bench.wire_lossy import lossy_rows
from hub.broker import BrokerError
from hub.errors import HubError
from wire.errors import WireError

Part = Callable[[Path, SmallBases, bool], list[Row]]

PARTS: dict[str, Part] = {
    "bytes": lambda folder, bases, quick: bytes_rows(folder, bases.trained(), quick=quick),
    "egress": lambda folder, bases, quick: egress_rows(folder, bases.trained(), quick=quick),
    "idle": lambda folder, _bases, quick: idle_link_rows(folder, quick=quick),
    "cut": lambda folder, bases, quick: cut_rows(folder, bases.trained(), quick=quick),
    "hub-memory": lambda folder, _bases, quick: big_update_rows(folder, quick=quick),
    "goodput": lambda folder, bases, quick: goodput_rows(folder, bases.wide(), quick=quick),
    "lossy": lambda folder, bases, quick: lossy_rows(folder, bases.trained(), quick=quick),
}


def measure(
    folder: Path, bases: SmallBases, *, quick: bool, wanted: Collection[str] = tuple(PARTS)
) -> list[Row]:
    """Return all rows; a part that fails is a row that says so, and the others go on.

    Args:
        folder: for everything that is made on the way, bases aside.
        bases: where the models are, or will be.
        quick: fewer seeds, pairs and minutes.
        wanted: of `PARTS`.
    """
    return [
        row
        for name, part in PARTS.items()
        if name in wanted
        for row in _rows(name, part, folder / name, bases, quick=quick)
    ]


def _rows(name: str, part: Part, folder: Path, bases: SmallBases, *, quick: bool) -> list[Row]:
    say(f"--- {name}")
    folder.mkdir(parents=True)
    try:
        rows = part(folder, bases, quick)
    except NotHereError as error:
        say(str(error))
        return [told(f"{name}: skipped, {error}", None)]
    except (BenchError, BrokerError, HubError, WireError) as error:
        say(str(error))
        return [failed(name, "measured")]
    show(name, rows, as_json=False, to_stderr=True)
    return rows


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.wire", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer seeds, pairs and minutes")
    parser.add_argument("--json", action="store_true", help="print one JSON list of rows")
    parser.add_argument(
        "--part", choices=PARTS, action="append", help="only this; may be given more than once"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the bases for the next time, and all logs"
    )
    arguments = parser.parse_args()
    # What Ctrl-C ends in good order, kill must, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    say(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    folder = Path(tempfile.mkdtemp(prefix="lorikeet-bench-"))
    kept = Path(tempfile.gettempdir()) / "lorikeet-bench-bases"
    bases = kept if arguments.keep else folder / "bases"  # never another run's
    try:
        rows = measure(
            folder, SmallBases(bases), quick=arguments.quick, wanted=arguments.part or PARTS
        )
    except KeyboardInterrupt:
        return 130
    finally:
        if arguments.keep:
            say(f"kept: {folder} and {bases}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    show("The wire", rows, as_json=arguments.json)
    say(f"load of the machine: {os.getloadavg()[0]:.1f}")
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
