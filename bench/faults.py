"""What breaks, and what must hold: ``python -m bench.faults [--quick] [--json]``.

The scenarios are the tests marked ``faults`` (`tests/system/test_faults.py`, `test_storm.py`):
they know how to set a stage and what must hold, so this only asks pytest for more seeds of them and
counts. Exit code 1 if one of them failed.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

from bench.report import BenchError, Row, at_most, checked, exit_code, say, show

SEEDS, QUICK_SEEDS = 20, 3
MESSAGES, QUICK_MESSAGES = 200_000, 5_000
#: Megabytes of resident memory. A message that left a hundred bytes behind would make as much of
#: 200,000; Python's arenas and libraries' caches, touched for the first time, take a few.
GROWTH_MB = 20.0
_ROOT = Path(__file__).parent.parent
_NAME = re.compile(r"(?P<test>test_\w+)\[(?P<case>.*)\]")


def run_tests(file: str, seeds: int, messages: int) -> ET.Element:
    """Return pytest's report on a file's fault tests.

    Raises:
        BenchError: they could not be run at all.
    """
    with tempfile.TemporaryDirectory(prefix="lorikeet-faults-") as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable, "-m", "pytest", "-q", "-m", "faults", f"tests/system/{file}",
            f"--fault-seeds={seeds}", f"--fault-messages={messages}",
            f"--junitxml={report}", "-o", "junit_family=xunit1",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1) or not report.exists():
            raise BenchError(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}")
        if done.returncode:
            sys.stderr.write(done.stdout[-6000:])
        return ET.parse(report).getroot()  # noqa: S314 (as above)


def seed_rows(report: ET.Element, seeds: int) -> list[Row]:
    """Return a row for each fault: how many seeds held of those that ran."""
    held: dict[str, int] = defaultdict(int)
    for case in report.iter("testcase"):
        fault = _fault(case.get("name") or "")
        good = all(case.find(bad) is None for bad in ("failure", "error", "skipped"))
        held[fault] += good
    if not held:
        raise BenchError("no fault test ran; is mosquitto on PATH?")
    return [
        checked(fault, f"{count} of {seeds}", "seeds", f"{seeds} of {seeds}", count == seeds)
        for fault, count in held.items()
    ]


def storm_rows(report: ET.Element, messages: int) -> list[Row]:
    """Return what the storms did to hub and agent."""
    rows = []
    for case in report.iter("testcase"):
        who = "the hub" if "hub" in (case.get("name") or "") else "an agent"
        found = {one.get("name"): float(one.get("value") or 0) for one in case.iter("property")}
        good = all(case.find(bad) is None for bad in ("failure", "error", "skipped"))
        rows.append(
            checked(
                f"{messages} random and mutated messages to {who}",
                "up, quiet" if good else "failed", "", "up, quiet", good,
            )
        )  # fmt: skip
        rows.append(at_most(f"{who}'s memory grew by", found.get("grown_mb"), "MB", GROWTH_MB))
    return rows


def _fault(name: str) -> str:
    """Return what a test's name says, without its seed."""
    match = _NAME.match(name)
    if match is None:
        return name
    words = [one for one in match["case"].split("-") if not one.isdigit()]
    test = match["test"].removeprefix("test_").replace("_", " ")
    return f"{test}: {', '.join(reversed(words))}" if words else test


def main() -> int:
    """Run all, print the rows, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 seeds, 5,000 messages")
    parser.add_argument("--json", action="store_true", help="print one JSON list of rows")
    options = parser.parse_args()
    seeds = QUICK_SEEDS if options.quick else SEEDS
    messages = QUICK_MESSAGES if options.quick else MESSAGES
    try:
        say(f"faults, {seeds} seeds each")
        rows = seed_rows(run_tests("test_faults.py", seeds, 0), seeds)
        say(f"{messages} messages to the hub, and to an agent")
        rows += storm_rows(run_tests("test_storm.py", 1, messages), messages)
    except BenchError as error:
        say(str(error))
        return 1
    show("Faults", rows, as_json=options.json)
    return exit_code(rows)


if __name__ == "__main__":
    sys.exit(main())
