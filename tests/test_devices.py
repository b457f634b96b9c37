"""The lists in ``devices/`` hold all that an agent without torch imports, and nothing heavy."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {"llama": "llama_cpp", "onnx": "onnxruntime"}
RUNTIMES = {"llama": "llama.cpp", "onnx": "onnxruntime"}
#: All that runs on such a device, with a table drawn, a tokenizer built and a template rendered.
CODE = """
import sys
from edge_agent.runtimes import forbid_torch
forbid_torch()
import edge_agent.cli, edge_agent.run_command, edge_agent.agent, edge_agent.probe_command
import edge_agent.plan_command, edge_agent.worker, edge_agent.inference.tasks
from edge_agent.inference.open import import_engine
import_engine({runtime!r})
from edge_agent.training.chat_template import compile_template
compile_template("{{{{ 1 }}}}", {{}})
import rich.table, rich.console, json
print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))
"""


def listed(name: str) -> set[str]:
    """Return the packages of a list and of those that it names, as PyPI normalises them."""
    found: set[str] = set()
    for line in (ROOT / "devices" / f"{name}.txt").read_text().splitlines():
        if line.startswith("-r "):
            found |= listed(line.removeprefix("-r ").removesuffix(".txt"))
        elif line and not line.startswith("#"):
            found.add(normalised(line))
    return found


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", MODULES)
def test_what_is_imported_is_listed(name: str) -> None:
    if find_spec(MODULES[name]) is None:
        pytest.skip(f"{MODULES[name]} isn't installed")
    code = CODE.format(runtime=RUNTIMES[name])
    environment = os.environ | {"LORIKEET_RUNTIME": RUNTIMES[name]}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    owners = packages_distributions()
    used = {normalised(one) for module in json.loads(done.stdout) for one in owners.get(module, [])}
    assert used - {"lorikeet", "pip", "setuptools"} <= listed(name)


@pytest.mark.parametrize("name", MODULES)
def test_nothing_heavy_is_listed(name: str) -> None:
    heavy = {"torch", "transformers", "peft", "accelerate", "huggingface-hub", "gguf", "fastapi"}
    assert not heavy & listed(name)
