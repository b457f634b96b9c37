"""A server beside an agent: it takes new adapters, and can always be stopped."""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't built: make llama")

from edge_agent.errors import AgentError
from edge_agent.serve_command import ServeSettings
from edge_agent.serving.generation import Begun, Broke, Ended
from edge_agent.serving.sampling import Sampling
from edge_agent.serving.service import Wish
from edge_agent.serving.start import Served
from edge_agent.serving_state import ServedJob, ServingState, write_state
from tests.edge_agent.conftest import SavedAdapter
from wire.blobs import BlobStore

BASE = "0" * 64


class State:
    """An agent's state folder."""

    def __init__(self, folder: Path, gguf: Path, saved: SavedAdapter) -> None:
        self.folder = folder
        self._saved = saved
        self._store = BlobStore(folder / "blobs")
        self._parts = [self._store.put(path.read_bytes()) for path in saved.parts.values()]
        base = folder / "models" / BASE
        base.mkdir(parents=True)
        (base / "base.gguf").symlink_to(gguf)
        (base / "complete").touch()
        self.tell(1)

    @property
    def settings(self) -> ServeSettings:
        return ServeSettings(state=str(self.folder), context=64, slots=2)

    def tell(self, round_: int) -> str:
        """Write what an agent would of a round; return the adapter's name."""
        manifest = msgspec.structs.replace(self._saved.manifest, round=round_)
        job = ServedJob(
            job="notes",
            round=round_,
            base=BASE,
            manifest=self._store.put(manifest.encode()),
            parts=self._parts,
        )
        write_state(self.folder, ServingState(device="one", jobs=[job]))
        return job.manifest


@pytest.fixture
def state(
    tmp_path: Path, gguf: Path, served_base: Path, make_adapter: Callable[..., SavedAdapter]
) -> State:
    return State(tmp_path / "state", gguf, make_adapter(served_base, tokens=0))


def test_a_slow_answer_holds_back_the_adapter_after_next(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(state.settings, threading.Event(), look_s=3600)
    service, gate = served.service, threading.Event()
    session = service.scheduler._current.session  # type: ignore[union-attr]
    feed = session.feed
    monkeypatch.setattr(session, "feed", lambda tokens: (gate.wait(60), feed(tokens))[1])
    slow = service.complete("once", Wish(most=2, sampling=Sampling(temperature=0)))
    assert isinstance(slow.told.get(timeout=60), Begun)
    second = state.tell(2)
    served._renew()
    assert (service.swaps, service.scheduler.adapter) == (1, second)
    third = state.tell(3)
    served._renew()
    assert (service.swaps, service.scheduler.adapter) == (1, second)
    gate.set()
    while not isinstance(slow.told.get(timeout=60), Ended | Broke):
        pass
    while not service.scheduler.settled:
        threading.Event().wait(0.01)
    served._renew()
    assert (service.swaps, service.scheduler.adapter) == (2, third)
    served.close()


def test_what_fails_again_and_again_is_said_once(
    state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = threading.Semaphore(0)

    def fails(_: Served) -> None:
        looks.release()
        raise AgentError("the blob is gone.")

    monkeypatch.setattr(Served, "_renew", fails)
    served = Served(state.settings, threading.Event(), look_s=0.01)
    for _ in range(5):
        assert looks.acquire(timeout=60)
    served.close()
    assert caplog.text.count("the adapter stays as it is: the blob is gone.") == 1
