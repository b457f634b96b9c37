"""What ``lorikeet-agent serve`` takes, over the size of the file that it maps, and how fast it is.

The process's resident memory after answers, as the kernel counts it: Python, engine, the mapped
file, an adapter of rank 16, and slots of 512 tokens.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.report import MIB, BenchError, Row, at_most, say, skipped, told
from bench.serving_models import adapter_folder, base_file, shape_of

CONTEXT, _SLOTS = 512, 4
_MOST_RATIO = 1.35
_ANSWER = 32
_START_S = 300.0


def memory_rows(folder: Path, *, quick: bool) -> list[Row]:
    """Return memory and speed, with and without repacked weights.

    Args:
        folder: where models are kept.
        quick: with a small model, of which no ratio is demanded: Python outweighs it.

    Raises:
        BenchError: the server doesn't start.
    """
    shape = shape_of(quick=quick)
    model, adapter = base_file(folder, shape), adapter_folder(folder, shape, 1)
    file_bytes = model.stat().st_size
    figure = "serve, 1.1B Q4_0, 4 slots of 512 tokens, adapter of rank 16: memory over the file"
    rows = [told(f"the file of {shape.name} in Q4_0", file_bytes / MIB, "MiB")]
    for repack in (False, True):
        words = "repacked" if repack else "mapped"
        say(f"serve, {shape.name}, {words}")
        with tempfile.TemporaryDirectory(prefix="lorikeet-bench-") as state:
            found = _measured(model, adapter, Path(state), repack)
        if quick:
            rows.append(skipped(f"{figure}, {words}", "", f"<= {_MOST_RATIO}"))
        elif repack:
            rows.append(told(f"{figure}, {words}", found["resident"] / file_bytes))
        else:
            ratio = found["resident"] / file_bytes
            rows.append(at_most(f"{figure}, {words}", ratio, "", _MOST_RATIO))
        rows.append(told(f"{words}: resident", found["resident"] / MIB, "MiB"))
        rows.append(told(f"{words}: greatest so far", found["peak"] / MIB, "MiB"))
        rows.append(told(f"{words}: answers", found["answers"], "tokens/s"))
        rows.append(told(f"{words}: questions", found["questions"], "tokens/s"))
    return rows


def _measured(model: Path, adapter: Path, state: Path, repack: bool) -> dict[str, float]:
    program = "import sys; sys.argv[0] = 'lorikeet-agent'; from edge_agent.cli import main; main()"
    command = [
        sys.executable, "-c", program, "serve", "--model", str(model), "--adapter", str(adapter),
        "--state", str(state), "--listen", "127.0.0.1:0", "--slots", str(_SLOTS),
        "--context", str(CONTEXT), "--repack" if repack else "--no-repack",
    ]  # fmt: skip
    log = state / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        url = _url(process, log)
        question = list(range(1, 257))
        asked_s = _ask(url, question, 1)
        whole_s = _ask(url, question, _ANSWER)  # the question is there already
        kinds = {"resident": "VmRSS", "peak": "VmHWM"}
        status = Path(f"/proc/{process.pid}/status").read_text()
        found = {
            name: float(re.search(rf"^{key}:\s+(\d+) kB", status, re.M)[1]) * 1024  # type: ignore[index]
            for name, key in kinds.items()
        }
        return found | {"questions": len(question) / asked_s, "answers": _ANSWER / whole_s}
    finally:
        process.terminate()
        process.wait(60)


def _url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"answers at (\S+)/v1", log.read_text())
        if found:
            return found[1]
        time.sleep(0.2)
    raise BenchError(f"the server did not start: {log.read_text()[-400:]}")


def _ask(url: str, question: list[int], most: int) -> float:
    """Return how long an answer of so many tokens takes, in seconds."""
    body = {"prompt": question, "max_tokens": most, "temperature": 0}
    began = time.monotonic()
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode())  # noqa: S310
    with urllib.request.urlopen(request, timeout=600) as response:  # noqa: S310 - our own server
        counted = json.loads(response.read())["usage"]["completion_tokens"]
    if counted != most:
        raise BenchError(f"the answer has {counted} tokens; {most} were wanted.")
    return time.monotonic() - began


def threads() -> int:
    """Return how many cores there are to compute with."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
