"""A server's answers are read as they come, and its refusals in its words."""

import threading
from collections.abc import Iterator

import pytest

from edge_agent.errors import AgentError, UsageError
from edge_agent.serving.http_server import Server
from edge_agent.serving.remote import Remote
from edge_agent.serving.scheduler import Scheduler
from edge_agent.serving.service import Service
from tests.edge_agent.serving.conftest import CountingSession

TURNS = [{"role": "user", "content": "ab"}]


class Letters:
    """A tokenizer whose tokens are bytes."""

    bos_id = eos_id = None
    adds_bos = False

    def ids(self, text: str) -> list[int]:
        return list(text.encode())

    def text(self, ids: list[int]) -> str:
        return bytes(ids).decode("latin-1")

    def id_of(self, token: str) -> None:
        return None

    def chat(self, turns: list[dict[str, str]], add_generation_prompt: bool) -> str:
        return "".join(turn["content"] for turn in turns)


class Engine:
    """An engine whose sessions count."""

    name = "counting"
    vocabulary = 256

    def open(self, adapter: object, *, slots: int, context: int) -> CountingSession:
        return CountingSession(1, slots, context)

    def close(self) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    service = Service(
        Engine(),  # type: ignore[arg-type]
        Letters(),  # type: ignore[arg-type]
        Scheduler(),
        name="x",
        slots=1,
        context=32,
    )
    service.use(None)
    made = Server(service, "127.0.0.1", 0, "a-token-of-many-letters")
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()
    service.close()


def test_pieces_come(server: Server) -> None:
    ask = Remote(server.url, server.token, max_tokens=4, temperature=0)
    assert [piece for piece in ask(TURNS) if piece] == ["c", "d", "e", "f"]
    assert (
        "".join(Remote(f"{server.url}/v1/", server.token, max_tokens=2, temperature=0)(TURNS))
        == "cd"
    )


def test_refusals_are_told(server: Server) -> None:
    with pytest.raises(AgentError, match="the token is missing or wrong"):
        list(Remote(server.url, None, max_tokens=4, temperature=0)(TURNS))
    long = [{"role": "user", "content": "x" * 40}]
    with pytest.raises(AgentError, match="Shorten the prompt"):
        list(Remote(server.url, server.token, max_tokens=4, temperature=0)(long))


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(AgentError, match="Is it running"):
        list(Remote("http://127.0.0.1:9", None, max_tokens=4, temperature=0)(TURNS))
    for wrong in ("127.0.0.1:8090", "ftp://x", "http://"):
        with pytest.raises(UsageError, match="--url"):
            Remote(wrong, None, max_tokens=4, temperature=0)
