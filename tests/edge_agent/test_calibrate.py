"""A device is measured once, by a real worker; where none can start, the reason is told.

Workers that can't start have a library in their path that fails as a broken installation does.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest

from edge_agent.calibrate import calibration_of
from edge_agent.calibration import (
    LEAST_RUNTIME_BYTES,
    Calibration,
    Measured,
    load_calibration,
    present_key,
    save_calibration,
)
from edge_agent.errors import AgentError

MB = 1_000_000
LITTLE = 300 * MB  # a worker starts, and has no room for the wide model
LEAN = Measured(lean_bytes=200 * MB)

Spoil = Callable[..., Path]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))
    return tmp_path / "state"


@pytest.fixture
def spoil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spoil:
    """Return a function that puts code in a library's place, and returns the starts' file."""

    def put(code: str, name: str = "torch") -> Path:
        folder = tmp_path / "spoilt"
        folder.mkdir()
        starts = tmp_path / "starts"
        starts.touch()
        lines = [f"with open({str(starts)!r}, 'a') as starts:", "    starts.write('x')", code]
        (folder / f"{name}.py").write_text("\n".join(lines))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return starts

    return put


def test_a_device_is_measured_once_and_again_only_when_asked(state: Path, spoil: Spoil) -> None:
    found = calibration_of(state, 1, LITTLE)
    assert found.key == present_key(1)
    measured = found.measured
    assert measured is not None
    assert 100 * MB < measured.lean_bytes < LITTLE
    assert (measured.full_bytes, measured.wide) == (None, False)
    assert set(measured.speeds) == set(measured.kernel_bytes)
    assert set(measured.speeds) in ({"f32"}, {"f32", "bf16"})
    # A core of 2005 has 1e9, a whole accelerator 1e15.
    assert all(1e8 < speed.flops_per_s <= 1e15 for speed in measured.speeds.values())
    kinds = {kind.name.lower() for kind in gguf.GGMLQuantizationType}
    assert {"q4_0", "q8_0", "q4_k"} <= set(measured.expand_per_s) <= kinds

    starts = spoil("raise ImportError")
    assert calibration_of(state, 1, LITTLE) == found
    assert calibration_of(state.with_name("another"), 1, LITTLE) == found  # from the cache
    assert starts.read_text() == ""
    with pytest.raises(AgentError):
        calibration_of(state, 1, LITTLE, again=True)
    assert starts.read_text() == "x"
    assert load_calibration(state, 1) == found  # what failed takes nothing away


def test_room_that_was_not_there_before_is_worth_another_one(state: Path, spoil: Spoil) -> None:
    save_calibration(state, 1, Calibration(key=present_key(1), measured=LEAN))
    starts = spoil("raise ImportError")
    assert calibration_of(state, 1, LITTLE).measured == LEAN
    assert starts.read_text() == ""
    with pytest.raises(AgentError):
        calibration_of(state, 1, 1000 * MB)
    assert starts.read_text() == "x"


def test_no_worker_is_started_that_could_only_break_its_limit(state: Path, spoil: Spoil) -> None:
    starts = spoil("raise ImportError")
    assert calibration_of(state, 1, LEAST_RUNTIME_BYTES - 1).measured is None
    assert load_calibration(state, 1) is None
    known = Calibration(key=present_key(1), measured=LEAN)
    save_calibration(state, 1, known)
    assert calibration_of(state, 1, LEAST_RUNTIME_BYTES - 1, again=True) == known
    assert starts.read_text() == ""


@pytest.mark.parametrize(
    ("code", "library", "reason"),
    [
        # What a library says of itself may be anything; its class and our line are enough.
        ("raise ImportError('x')", "torch", r"itself: ImportError at \w+\.py:\d+\. Is the extra"),
        ("raise OSError('no card.')", "msgspec", r"itself: OSError: no card\. Is the extra 'tr"),
        ("import os; os._exit(3)", "torch", r"itself: it ended with code 3\. Is the extra"),
    ],
)
def test_a_worker_that_can_t_start_is_an_error_with_its_reason(
    state: Path, spoil: Spoil, code: str, library: str, reason: str
) -> None:
    spoil(code, library)
    with pytest.raises(AgentError, match=reason):
        calibration_of(state, 1, LITTLE)
    assert load_calibration(state, 1) is None


@pytest.mark.parametrize(
    "code", ["import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "raise MemoryError"]
)
def test_a_worker_that_runs_out_of_memory_tries_less_and_then_nothing_fits(
    state: Path, spoil: Spoil, code: str
) -> None:
    starts = spoil(code)
    found = calibration_of(state, 1, 1000 * MB)
    assert starts.read_text() == "xx"
    assert found.runtime_bytes(full=False) > 1000 * MB
    assert load_calibration(state, 1) is None  # another time there may be more


def test_less_is_measured_where_more_runs_out_of_memory(state: Path, spoil: Spoil) -> None:
    # The first worker is killed, the second one gets the true library.
    starts = spoil(
        "import os, signal, sys\n"
        "if os.path.getsize(starts.name) == 1:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.path.remove(os.path.dirname(__file__))\n"
        "del sys.modules['torch']\n"
        "import torch\n"
    )
    found = calibration_of(state, 1, 1000 * MB)
    assert starts.read_text() == "xx"
    assert found.measured is not None
    assert (found.measured.full_bytes, found.measured.wide) == (None, False)
    assert 100 * MB < found.measured.lean_bytes < 1000 * MB
    assert load_calibration(state, 1) == found


def test_the_supervisor_s_side_imports_no_torch() -> None:
    code = "import sys, edge_agent.calibrate; print(*{'numpy', 'torch'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
