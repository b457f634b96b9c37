"""Which libraries for models are installed, and does the worker's one load?"""

import subprocess
import sys
from importlib import metadata

from edge_agent.doctor.contract import Finding, Subject, fail, ok

NAME = "runtime"
#: What a worker may run on: its package's name for pip, and the module that must load.
RUNTIMES = {"torch": "torch", "llama-cpp-python": "llama_cpp", "onnxruntime": "onnxruntime"}
_TIMEOUT_S = 120.0


def check_runtime(subject: Subject) -> list[Finding]:  # noqa: ARG001 - the same for all
    """Load each one in a process of its own: a library for another processor ends it."""
    found: list[Finding] = []
    for package, module in RUNTIMES.items():
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        told = f"{package} {version}"
        why = _load(module)
        if why is None:
            found.append(ok(NAME, told))
        else:
            todo = f"install it again for this machine: pip install --force-reinstall {package}"
            found.append(fail(NAME, f"{told} doesn't load: {why}", todo))
    if not found:
        todo = "pip install 'lorikeet[train]', or [llama] or [onnx] for a device that only serves."
        return [fail(NAME, f"none of {', '.join(RUNTIMES)} is installed", todo)]
    return found


def _load(module: str) -> str | None:
    """Return why a module can't be loaded, None if it can."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not within {_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"the process ended with code {done.returncode}"
