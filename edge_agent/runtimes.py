"""What a device computes with: torch, llama.cpp or ONNX Runtime; found without importing any.

Torch does everything, so it goes first where it is there. A device without it evaluates through an
engine. ``LORIKEET_RUNTIME`` picks another one, and then the worker can't import torch at all: it
is what it would be on a device that never had it.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from edge_agent.errors import UsageError

TORCH, LLAMA, ONNX = "torch", "llama.cpp", "onnxruntime"
#: By name, the module that is it; the best first.
MODULES = {TORCH: "torch", LLAMA: "llama_cpp", ONNX: "onnxruntime"}
#: Names one of them.
VARIABLE = "LORIKEET_RUNTIME"
#: What an engine's worker never imports: torch, and what brings it.
_HEAVY = ("torch", "transformers", "peft", "accelerate")


def present_runtimes() -> list[str]:
    """Return the runtimes that are installed, the best first."""
    return [name for name, module in MODULES.items() if find_spec(module) is not None]


def chosen_runtime() -> str:
    """Return what this device computes with: the one that was asked for, or else the best.

    Raises:
        UsageError: ``LORIKEET_RUNTIME`` names none, or one that isn't installed; or none is.
    """
    asked, present = os.environ.get(VARIABLE, ""), present_runtimes()
    if asked and asked not in MODULES:
        raise UsageError(f"{VARIABLE} is {asked!r}; allowed are {', '.join(MODULES)}.")
    if asked and asked not in present:
        raise UsageError(f"{VARIABLE} is {asked}, which isn't installed. {_advice(asked)}")
    if not asked and not present:
        raise UsageError(
            "nothing to compute with is installed: neither torch nor llama.cpp nor ONNX Runtime. "
            "Install one of the extras: pip install 'lorikeet[train]', [llama] or [onnx]."
        )
    return asked or present[0]


def _advice(runtime: str) -> str:
    extra = {TORCH: "train", LLAMA: "llama", ONNX: "onnx"}[runtime]
    return f"Run: pip install 'lorikeet[{extra}]'."


def forbid_torch() -> None:
    """Let every later import of torch, or of a library that brings it, fail in this process."""
    sys.meta_path.insert(0, _Forbidden())


class _Forbidden:
    """An importer that refuses some modules (https://docs.python.org/3/reference/import.html)."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse a module, or leave it to the other importers."""
        del path, target
        if name.partition(".")[0] in _HEAVY:
            raise ModuleNotFoundError(f"{name} is not for a worker that runs an engine.", name=name)
        return None
