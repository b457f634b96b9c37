"""What a device computes with: the best there is, or what it is told; none is imported for that."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from edge_agent import runtimes
from edge_agent.errors import UsageError
from edge_agent.runtimes import VARIABLE, chosen_runtime, present_runtimes

Installed = Callable[..., None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Return a function that makes these modules, and no others, be installed."""
    monkeypatch.delenv(VARIABLE, raising=False)

    def install(*names: str) -> None:
        monkeypatch.setattr(runtimes, "find_spec", lambda name: name if name in names else None)

    return install


@pytest.mark.parametrize(
    ("modules", "wanted"),
    [
        (("torch", "llama_cpp", "onnxruntime"), "torch"),
        (("onnxruntime", "llama_cpp"), "llama.cpp"),
        (("onnxruntime",), "onnxruntime"),
    ],
)
def test_the_best_that_is_there_is_taken(
    installed: Installed, modules: tuple[str, ...], wanted: str
) -> None:
    installed(*modules)
    assert chosen_runtime() == wanted
    assert present_runtimes()[0] == wanted
    assert len(present_runtimes()) == len(modules)


def test_another_one_can_be_asked_for(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("torch", "llama_cpp")
    monkeypatch.setenv(VARIABLE, "llama.cpp")
    assert chosen_runtime() == "llama.cpp"
    monkeypatch.setenv(VARIABLE, "onnxruntime")
    with pytest.raises(UsageError, match=r"isn't installed. Run: pip install 'lorikeet\[onnx\]'"):
        chosen_runtime()
    monkeypatch.setenv(VARIABLE, "abacus")
    with pytest.raises(UsageError, match="'abacus'; allowed are torch, "):
        chosen_runtime()


def test_with_none_at_all_it_is_said_what_to_install(installed: Installed) -> None:
    installed()
    with pytest.raises(UsageError, match="nothing to compute with is installed"):
        chosen_runtime()


def test_what_is_forbidden_can_not_be_imported_though_it_is_there() -> None:
    code = (
        "import sys\n"
        "from edge_agent.runtimes import forbid_torch\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "forbid_torch()\n"
        "for name in ('torch', 'torch.nn', 'transformers', 'peft', 'accelerate'):\n"
        "    try:\n"
        "        __import__(name)\n"
        "    except ModuleNotFoundError as error:\n"
        "        print(error)\n"
        "import numpy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 5
    assert "torch is not for a worker that runs an engine." in done.stdout
