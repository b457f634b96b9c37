"""The server's process: it can always be stopped, and quotes nothing of what failed."""

import fcntl
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from edge_agent.serve_command import ServeSettings
from edge_agent.serving import serve_main
from edge_agent.serving_state import ServedJob, ServingState, write_state
from tests.edge_agent.test_fetch_derived import BASE, MAKING, Hub, hub

__all__ = ["hub"]  # a fixture


def _stopped(state: Path, behind: str) -> dict[str, object]:
    """Stop a server with Ctrl-C once it has said something; return its document."""
    settings = msgspec.json.encode(ServeSettings(state=str(state), as_json=True)).decode()
    command = [sys.executable, "-m", "edge_agent.serving.serve_main", settings]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        said: list[str] = []
        while not said or behind not in said[-1]:
            said.append(server.stderr.readline())
            assert said[-1], said  # else it has ended
        server.send_signal(signal.SIGINT)
        out, rest = server.communicate(timeout=60)
    assert server.returncode == 0, rest
    assert "stopped before" in rest
    return json.loads(out)  # type: ignore[no-any-return]


def test_it_can_be_stopped_while_it_waits_for_an_adapter(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a running agent
        found = _stopped(tmp_path, "waiting for the first adapter")
    assert (found["model"], found["swaps"]) == (None, 0)


def test_it_can_be_stopped_while_the_hub_makes_a_base(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't built: make llama")
    hub.answers = [MAKING]
    job = ServedJob(job="notes", round=1, base=BASE, derived=["gguf-q8_0"], manifest="m" * 64)
    write_state(tmp_path, ServingState(device="one", http=hub.url, jobs=[job]))
    assert _stopped(tmp_path, "fetching the base as gguf-q8_0")["model"] is None


def test_a_thread_that_failed_is_named_and_nothing_is_quoted(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> None:
        raise ValueError("secret")

    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(serve_main, "serve", lambda *_: {})
    monkeypatch.setattr(serve_main, "log_to_stderr", lambda: None)
    monkeypatch.setattr(serve_main.signal, "signal", lambda *_: None)
    monkeypatch.setattr(serve_main.sys, "argv", ["serve", '{"state": "/tmp"}'])
    serve_main.main()
    thread = threading.Thread(target=fails, name="engine")
    thread.start()
    thread.join()
    assert "the thread engine ended: ValueError" in caplog.text
    assert "secret" not in caplog.text + capsys.readouterr().err
