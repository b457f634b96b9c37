"""What a hub makes of a base: waited for, fetched, and refused if it was made of something else."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.fetch import COMPLETE, FetchError, changed_files
from edge_agent.fetch_derived import NotMadeError, check_base, fetch_derived
from edge_agent.worker import _failure
from hub.export.base_type import BaseType
from hub.export.gguf.base import write_base
from tests.edge_agent.test_fetch import Handler as ModelHandler
from tests.edge_agent.test_fetch import Hub as ModelHub
from tests.system.agent_base import write_trainable_base

BASE = "ab" * 32
MAKING = (202, {"state": "making", "done_bytes": 40, "total_bytes": 100})


class Hub(ModelHub):
    """Answers questions about a derived base one after the other; the last answer stays."""

    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = Handler
        self.answers: list[tuple[int, dict[str, object] | bytes]] = []


class Handler(ModelHandler):
    server: Hub

    def do_GET(self) -> None:
        if "/derived/" not in self.path:
            super().do_GET()
            return
        assert self.path == f"/v1/models/{BASE}/derived/gguf-q8_0"
        answers = self.server.answers
        status, said = answers.pop(0) if len(answers) > 1 else answers[0]
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 202:
            self.send_header("Retry-After", "2")
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("made")
    base = write_trainable_base(folder / "base")
    write_base(base, folder / "model.gguf", BaseType.Q8_0, BASE)
    return (folder / "model.gguf").read_bytes()


class Waits(list[float]):
    """Remembers for how long it was to be waited, and doesn't."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def fetched(hub: Hub, folder: Path, waits: Waits) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    fetch_derived(
        hub.url,
        BASE,
        "gguf-q8_0",
        str(folder),
        lambda done, total: told.append((done, total)),
        wait=waits,
    )
    return told


def test_it_waits_until_the_files_are_made_then_fetches_them(
    hub: Hub, gguf: bytes, tmp_path: Path
) -> None:
    digest = hub.publish({"model-q8_0.gguf": gguf, "tokenizer.json": b"{}"})
    hub.answers = [MAKING, MAKING, (200, {"state": "ready", "digest": digest})]
    waits = Waits()
    told = fetched(hub, tmp_path / "derived", waits)
    assert waits == [2.0, 2.0]
    assert told[:2] == [(40, 100), (40, 100)]
    assert told[-1] == (len(gguf) + 2, len(gguf) + 2)
    assert (tmp_path / "derived" / COMPLETE).read_bytes() == hub.models[digest]
    assert (tmp_path / "derived" / "model-q8_0.gguf").read_bytes() == gguf
    # As the doctor looks at it, under the name that it has in the state folder.
    place = (tmp_path / "derived").rename(tmp_path / f"{BASE}-gguf-q8_0")
    assert changed_files(place) == []
    (place / "tokenizer.json").write_bytes(b"[]")
    assert changed_files(place) == ["tokenizer.json"]


def test_a_file_of_another_base_is_never_used(hub: Hub, gguf: bytes, tmp_path: Path) -> None:
    other = gguf.replace(BASE.encode(), b"cd" * 32)
    assert other != gguf
    digest = hub.publish({"model-q8_0.gguf": other})
    hub.answers = [(200, {"state": "ready", "digest": digest})]
    with pytest.raises(FetchError, match="was made of the base cdcdcdcdcdcd, not of abababababab"):
        fetched(hub, tmp_path / "derived", Waits())
    assert not (tmp_path / "derived" / COMPLETE).exists()


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(FetchError, match=r"model\.gguf can't be used"):
        check_base(tmp_path, BASE)


@pytest.mark.parametrize("status", [404, 409])
def test_the_hub_s_reason_is_passed_on(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.answers = [(status, {"error": "it can't be made of this base: its family is strange."})]
    waits = Waits()
    with pytest.raises(
        NotMadeError, match=r"the hub has no gguf-q8_0 of this base: .*strange"
    ) as raised:
        fetched(hub, tmp_path / "derived", waits)
    assert waits == []
    # The worker tells it apart from a network that is away.
    assert _failure("", raised.value).kind == "derived"
    assert _failure("", FetchError("away")).kind == "network"


def test_a_hub_that_fails_for_a_moment_is_asked_again(
    hub: Hub, gguf: bytes, tmp_path: Path
) -> None:
    digest = hub.publish({"model-q8_0.gguf": gguf})
    hub.answers = [(500, {"error": "the disk is full"}), (503, b"busy"), (200, {"digest": digest})]
    waits = Waits()
    fetched(hub, tmp_path / "derived", waits)
    assert waits == pytest.approx([0.2, 0.4])
    hub.answers = [(500, {"error": "the disk is full"})]
    with pytest.raises(FetchError, match=r"5 attempts .* .HTTP status 500: the disk"):
        fetched(hub, tmp_path / "again", Waits())


def test_an_answer_that_is_no_document_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.answers = [(200, b"<html>")]
    with pytest.raises(FetchError, match="can't be read"):
        fetched(hub, tmp_path / "derived", Waits())
    with pytest.raises(FetchError, match="must begin with http"):
        fetch_derived("ftp://hub", BASE, "gguf-q8_0", str(tmp_path), lambda _done, _total: None)
