"""Agent and server tell one another what they must, and nothing stays of a process that is gone."""

import multiprocessing
from pathlib import Path

import pytest

from edge_agent.serving_state import (
    FILE,
    Made,
    ServedJob,
    ServingState,
    UserLock,
    read_state,
    user_waits,
    write_state,
)
from wire.errors import MalformedError

JOB = ServedJob(
    job="notes",
    round=3,
    base="b" * 64,
    manifest="m" * 64,
    parts=["p" * 64],
    made=[Made(part="q" * 64, held="h" * 64, differences=["d" * 64])],
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = ServingState(device="one", http="http://hub:1", jobs=[JOB])
    assert read_state(tmp_path) is None
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_an_adapter_takes_all_its_blobs() -> None:
    assert JOB.blobs == {letter * 64 for letter in "mphd"}


def test_a_broken_file_says_what_to_do(tmp_path: Path) -> None:
    for text in (b"", b"{", b'{"device": 3}'):
        (tmp_path / FILE).write_bytes(text)
        with pytest.raises(MalformedError, match="Remove it"):
            read_state(tmp_path)


def test_a_user_waits_while_any_server_says_so(tmp_path: Path) -> None:
    assert not user_waits(tmp_path)
    one, other = UserLock(tmp_path), UserLock(tmp_path)
    assert not user_waits(tmp_path)
    one.tell(True)
    other.tell(True)
    assert user_waits(tmp_path)
    one.tell(False)
    assert user_waits(tmp_path)
    other.close()
    one.close()
    assert not user_waits(tmp_path)


def _wait_for_ever(folder: Path, ready: "multiprocessing.synchronize.Event") -> None:
    lock = UserLock(folder)
    lock.tell(True)
    ready.set()
    multiprocessing.Event().wait()


def test_nobody_waits_at_a_server_that_was_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    server = context.Process(target=_wait_for_ever, args=(tmp_path, ready), daemon=True)
    server.start()
    assert ready.wait(60)
    assert user_waits(tmp_path)
    server.kill()
    server.join()
    assert not user_waits(tmp_path)
