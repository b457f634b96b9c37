"""What an agent without torch weighs: its site-packages, and its memory while it waits.

Two environments for each engine, made by pip: from the extra, and from the list in ``devices/``.
Each is used before it is measured, for Python compiles what it imports.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.real_agent import agent_command
from bench.report import BenchError, Row, at_most, say, told
from bench.stand import Stand
from edge_agent.probe.process import resident_bytes
from hub.demo.texts import PACKAGES, write_text

_ROOT = Path(__file__).parents[1]
_IDLE_MB = 50.0
_LARGEST = 6  # packages that are told by name


class Engine(NamedTuple):
    """An extra, and what its environment may weigh."""

    extra: str
    name: str
    module: str
    limit_mb: float


ENGINES = (
    Engine("llama", "llama.cpp", "llama_cpp", 150.0),
    Engine("onnx", "onnxruntime", "onnxruntime", 200.0),
)


def size_rows(*, quick: bool) -> list[Row]:
    """Return the rows of both engines.

    Args:
        quick: only the lists of ``devices/``, and a short look at the memory.

    Raises:
        BenchError: pip can't make an environment, or something in one doesn't work.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="lorikeet-bench-") as folder:
        for engine in ENGINES:
            if not quick:
                plain = _environment(Path(folder) / f"{engine.extra}-plain", engine, lean=False)
                size = _weight(plain)
                figure = f"site-packages without torch, {engine.name}, as pip resolves the extra"
                rows.append(told(figure, size / 1e6, "MB"))
            lean = _environment(Path(folder) / engine.extra, engine, lean=True)
            figure = f"site-packages without torch, {engine.name}, by devices/{engine.extra}.txt"
            rows.append(at_most(figure, _weight(lean) / 1e6, "MB", engine.limit_mb))
            say(f"largest: {_largest(lean)}")
            used = _idle(Path(folder) / f"{engine.extra}-stand", lean, 2.0 if quick else 10.0)
            rows.append(at_most(f"idle agent, {engine.name}: RSS", used / 1e6, "MB", _IDLE_MB))
    return rows


def _environment(folder: Path, engine: Engine, *, lean: bool) -> Path:
    """Make an environment, and use what is in it; return its Python."""
    say(f"an environment for {engine.name}, {'by its list' if lean else 'as pip resolves it'}")
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    words = ["install", "--quiet", "-c", str(_ROOT / "constraints.txt"), "--find-links", _wheels()]
    if lean:
        listed = str(_ROOT / "devices" / f"{engine.extra}.txt")
        words += ["--no-deps", "--no-compile", "-r", listed, str(_ROOT)]
    else:
        words += [f"{_ROOT}[{engine.extra}]"]
    _run([*pip, *words])
    _use(python, engine)
    return python


def _use(python: Path, engine: Engine) -> None:
    """Run what a device runs, and check that nothing is missing."""
    found = json.loads(_run([str(python.with_name("lorikeet-agent")), "probe", "--json"]))
    if found["runtimes"] != [engine.name]:
        raise BenchError(f"{python} has {found['runtimes']} to compute with, not {engine.name}.")
    asked = b'{"type":"calibrate","wide":false,"full":false}\n'
    worker = [str(python), "-P", "-m", "edge_agent.worker"]
    with subprocess.Popen(
        worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment_words()
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise BenchError("the worker has no pipes.")
        process.stdin.write(asked)
        process.stdin.flush()
        said = process.stdout.readline().decode()
        process.stdin.close()  # which ends it
    if "calibrated" not in said:
        raise BenchError(f"{engine.name}'s worker says: {said.strip()[-500:]}")


def _weight(python: Path) -> int:
    """Return the bytes of all files in an environment's site-packages."""
    return sum(path.stat().st_size for path in _packages(python).rglob("*") if path.is_file())


def _largest(python: Path) -> str:
    """Return the largest folders there, in words."""
    sizes = {
        folder.name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in _packages(python).iterdir()
        if folder.is_dir()
    }
    names = sorted(sizes, key=lambda name: -sizes[name])[:_LARGEST]
    return ", ".join(f"{name} {sizes[name] / 1e6:.1f} MB" for name in names)


def _packages(python: Path) -> Path:
    (folder,) = python.parents[1].glob("lib/python3*/site-packages")
    return folder


def _idle(folder: Path, python: Path, watch_s: float) -> int:
    """Return the greatest resident memory of an agent that waits for its first job."""
    folder.mkdir(parents=True)
    text = write_text(folder, PACKAGES[0], 150_000)
    with Stand(folder / "stand") as stand:
        command = agent_command(stand.broker_url, "idle", text.path, folder / "state")
        command[0] = str(python.with_name("lorikeet-agent"))
        pid = stand.start("agent", command)
        stand.wait_for("the agent", lambda: stand.ready_devices() == 1)
        deadline, greatest = time.monotonic() + watch_s, 0
        while time.monotonic() < deadline:
            greatest = max(greatest, resident_bytes(pid) or 0)
            time.sleep(0.25)
    return greatest


def _wheels() -> str:
    """Return where `.ci/llama` keeps the wheel that it compiled, so that pip need not."""
    done = _run(["bash", "-c", f"{_ROOT}/.ci/llama --where"])
    return done.strip()


def _environment_words() -> dict[str, str]:
    """Return this process's environment without what would lead to other code or engines."""
    others = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LORIKEET_RUNTIME")
    return {name: value for name, value in os.environ.items() if name not in others}


def _run(command: Sequence[str]) -> str:
    """Run a command to its end; return what it wrote.

    Raises:
        BenchError: it failed.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=_environment_words()
    )
    if done.returncode != 0:
        last = "".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise BenchError(f"{' '.join(command)[:200]} failed: {last[-500:]}")
    return done.stdout
