"""The server's process: what it says of a thread that failed."""

import threading

import pytest

from edge_agent.serving import serve_main


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
