"""States of strategies as blobs."""

from pathlib import Path

import pytest

from hub.rounds.controls import Controls
from hub.rounds.server_state import ServerState, read_state, state_blobs
from wire.blobs import BlobStore
from wire.errors import MalformedError

FULL = ServerState(parts={"lora": "a" * 64}, control="b" * 64, own_controls={"ward": "c" * 64})


def test_a_state_comes_back_and_names_all_that_must_stay(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    sha256 = store.put(FULL.encode())
    assert read_state(store, sha256) == FULL
    assert state_blobs(store, sha256) == {sha256, "a" * 64, "b" * 64, "c" * 64}
    assert FULL.controls == Controls("b" * 64, {"ward": "c" * 64})


def test_an_empty_state_names_nothing() -> None:
    assert ServerState().blobs == set()


def test_a_state_of_another_kind_is_refused(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    for data in (b"{", b'{"parts": {"head": "x"}}', b'{"extra": 1}'):
        with pytest.raises(MalformedError, match="no strategy's state"):
            read_state(store, store.put(data))
    with pytest.raises(MalformedError, match="is gone"):
        read_state(store, "d" * 64)
