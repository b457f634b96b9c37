"""The official client chats with llama.cpp through the endpoint; other callers meet its limits."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't built: make llama")
pytest.importorskip("openai", reason="the extra dev isn't installed: make setup")

import openai

from edge_agent.inference.llama.engine import LlamaEngine
from edge_agent.serving.http_server import Server
from edge_agent.serving.scheduler import Scheduler
from edge_agent.serving.service import Service
from edge_agent.training.tokenizer import Tokenizer, load_tokenizer
from tests.edge_agent.serving.model import greedy, random_adapter

TURNS = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
PROMPT = "<system>be kind\n<user>hello\n<assistant>"


@pytest.fixture
def service(gguf: Path) -> Iterator[Service]:
    made = Service(
        LlamaEngine(gguf),
        load_tokenizer(gguf),
        Scheduler(queue=3),
        name="clinic",
        slots=2,
        context=128,
    )
    made.use(None)
    yield made
    made.close()


@pytest.fixture
def server(service: Service) -> Iterator[Server]:
    yield from _listening(Server(service, "127.0.0.1", 0, None))


def _listening(made: Server) -> Iterator[Server]:
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def client(server: Server) -> Iterator["openai.OpenAI"]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def _wanted(gguf: Path, text: str, most: int, adapter: object = None) -> str:
    tokenizer = load_tokenizer(gguf)
    return _text(tokenizer, greedy(gguf, adapter, tokenizer.ids(text), most))


def _text(tokenizer: Tokenizer, ids: list[int]) -> str:
    if tokenizer.eos_id in ids:
        ids = ids[: ids.index(tokenizer.eos_id)]
    return tokenizer.text(ids)


def test_a_chat_is_what_the_model_says(client: "openai.OpenAI", gguf: Path) -> None:
    found = client.chat.completions.create(
        model="clinic", messages=TURNS, max_tokens=12, temperature=0
    )
    assert found.choices[0].message.content == _wanted(gguf, PROMPT, 12)
    assert found.choices[0].finish_reason == "length"
    assert found.system_fingerprint == "base"
    assert found.usage.prompt_tokens == len(PROMPT)
    assert found.usage.completion_tokens == 12
    assert found.usage.total_tokens == len(PROMPT) + 12


def test_a_stream_says_the_same_in_pieces(client: "openai.OpenAI", gguf: Path) -> None:
    chunks = list(
        client.chat.completions.create(
            model="clinic",
            messages=TURNS,
            max_tokens=12,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [one.choices[0].delta.content for one in chunks if one.choices]
    assert "".join(piece or "" for piece in pieces) == _wanted(gguf, PROMPT, 12)
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 12


def test_a_completion_continues_a_text(client: "openai.OpenAI", gguf: Path) -> None:
    found = client.completions.create(model="lorikeet", prompt="once", temperature=0)
    assert found.choices[0].text == _wanted(gguf, "once", 16)
    assert found.usage.completion_tokens == 16
    pieces = client.completions.create(
        model="", prompt=["once"], temperature=0, max_tokens=5, stream=True
    )
    assert "".join(one.choices[0].text for one in pieces) == _wanted(gguf, "once", 5)
    ids = load_tokenizer(gguf).ids("once")
    again = client.completions.create(model="", prompt=ids, temperature=0, max_tokens=5)
    assert again.choices[0].text == _wanted(gguf, "once", 5)
    assert again.usage.prompt_tokens_details.cached_tokens == 3


def test_a_stop_string_ends_an_answer(client: "openai.OpenAI", gguf: Path) -> None:
    whole = _wanted(gguf, "once", 16)
    stop = whole[6:8]
    found = client.completions.create(model="", prompt="once", temperature=0, stop=stop)
    assert found.choices[0].text == whole[: whole.index(stop)]
    assert found.choices[0].finish_reason == "stop"


def test_a_seed_fixes_an_answer(client: "openai.OpenAI") -> None:
    def say(seed: int) -> str:
        made = client.completions.create(
            model="", prompt="once", seed=seed, temperature=1.5, top_p=0.9, max_tokens=12
        )
        return made.choices[0].text

    assert say(1) == say(1)
    assert len({say(seed) for seed in range(4)}) > 1


def test_the_model_is_listed(client: "openai.OpenAI", server: Server) -> None:
    assert [one.id for one in client.models.list()] == ["clinic"]
    assert client.models.retrieve("clinic").owned_by == "lorikeet"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")
    status, found = _get(server, "/health")
    assert (status, found["status"], found["engine"]) == (200, "ok", "llama.cpp")
    assert (found["slots"], found["context"], found["adapter"]) == (2, 128, "base")


def test_a_new_adapter_answers_the_next_question(
    client: "openai.OpenAI", service: Service, gguf: Path, served_base: Path
) -> None:
    adapter = random_adapter(served_base, 1)
    service.use(adapter)
    found = client.completions.create(model="", prompt="once", temperature=0)
    assert found.system_fingerprint == "adapter-1"
    assert found.choices[0].text == _wanted(gguf, "once", 16, adapter) != _wanted(gguf, "once", 16)


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"messages": []}, "messages", "length >= 1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages", "messages"),
        ({"messages": TURNS, "temperature": -1}, "temperature", ">= 0"),
        ({"messages": TURNS, "n": 2}, "n", "n is not supported"),
        ({"messages": TURNS, "tools": [{}]}, "tools", "not supported"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages",
            "only text is read",
        ),
        ({"messages": TURNS, "stop": ["a"] * 17}, "stop", "length <= 16"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    client: "openai.OpenAI", body: dict[str, object], param: str, said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", body={"model": "", **body}, cast_to=object)
    assert caught.value.param == param
    assert said in caught.value.message
    assert "be kind" not in caught.value.message


def test_what_is_too_long_is_refused(client: "openai.OpenAI") -> None:
    with pytest.raises(openai.BadRequestError, match="129 tokens; the context has 128") as caught:
        client.completions.create(model="", prompt="x" * 129)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="empty"):
        client.completions.create(model="", prompt="")
    with pytest.raises(openai.NotFoundError, match="'clinic' does"):
        client.completions.create(model="gpt-4o", prompt="x")


def test_an_answer_has_no_more_room_than_there_is(client: "openai.OpenAI") -> None:
    found = client.completions.create(model="", prompt="x" * 125, temperature=0, max_tokens=50)
    assert found.usage.completion_tokens <= 3


def _get(
    server: Server, path: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, object]]:
    return _ask(server, "GET", path, None, headers)


def _ask(
    server: Server,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    found = json.loads(response.read() or b"{}")
    connection.close()
    return response.status, found


def test_bodies_that_are_no_requests_are_refused(server: Server) -> None:
    path = "/v1/completions"
    for body in (b"", b"[]", b"{", b'{"prompt": 3}', b"\xff"):
        status, found = _ask(server, "POST", path, body)
        assert status == 400
        assert set(found["error"]) == {"message", "type", "param", "code"}
    status, _ = _ask(server, "POST", path, None, {"Content-Length": str(2**40)})
    assert status == 413
    assert _ask(server, "POST", path, None, {"Transfer-Encoding": "chunked"})[0] == 411
    assert _ask(server, "POST", "/v1/embeddings", b"{}")[0] == 404
    assert _get(server, "/")[0] == 404


def test_web_pages_do_not_reach_a_local_model(server: Server) -> None:
    body = b'{"prompt": "x", "max_tokens": 1}'
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        assert _ask(server, "POST", "/v1/completions", body, headers)[0] == 403
        assert _get(server, "/v1/models", headers)[0] == 403
    for origin in ("http://localhost:3000", "http://127.0.0.1"):
        assert _ask(server, "POST", "/v1/completions", body, {"Origin": origin})[0] == 200


def test_with_a_token_only_those_who_know_it_may_ask(service: Service) -> None:
    listening = _listening(Server(service, "127.0.0.1", 0, "a-token-of-many-letters"))
    server = next(listening)
    for key in ("wrong", "a-token-of-many-letterz"):
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()
    assert _get(server, "/v1/models")[0] == 401
    assert _ask(server, "POST", "/v1/completions", b"{}")[0] == 401
    assert _get(server, "/health")[0] == 200
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="a-token-of-many-letters") as client:
        assert client.completions.create(model="", prompt="x", max_tokens=1).choices
    next(listening, None)


def _raw(server: Server, body: dict[str, object]) -> socket.socket:
    data = json.dumps(body).encode()
    connection = socket.create_connection(server.server_address[:2], timeout=30)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    connection.sendall(head.encode() + data)
    return connection


def _until_idle(service: Service) -> None:
    end = time.monotonic() + 30
    while service.scheduler.busy:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [True, False])
def test_who_hangs_up_makes_room(server: Server, service: Service, stream: bool) -> None:
    """Nobody would read an answer of a hundred tokens; it isn't computed to its end."""
    computed = []
    session = service.scheduler._current.session
    feed = session.feed

    def slow(tokens):  # type: ignore[no-untyped-def]
        computed.append(1)
        time.sleep(0.03)
        return feed(tokens)

    session.feed = slow
    connection = _raw(
        server, {"prompt": "x", "max_tokens": 100, "temperature": 0, "stream": stream}
    )
    while not computed:
        time.sleep(0.005)
    connection.close()
    _until_idle(service)
    assert len(computed) < 90


def test_more_than_may_wait_are_sent_away(
    server: Server, service: Service, client: "openai.OpenAI"
) -> None:
    gate, entered = threading.Event(), threading.Event()
    session = service.scheduler._current.session
    feed = session.feed

    def held(tokens):  # type: ignore[no-untyped-def]
        entered.set()
        gate.wait(60)
        return feed(tokens)

    session.feed = held
    connections: list[socket.socket] = []
    for _ in range(4):  # one is computed, three wait
        connections.append(_raw(server, {"prompt": "x", "max_tokens": 1}))
        end = time.monotonic() + 30
        while service.scheduler.busy < len(connections) or not entered.is_set():
            assert time.monotonic() < end
            time.sleep(0.01)
    with pytest.raises(openai.RateLimitError, match="3 requests wait"):
        client.completions.create(model="", prompt="x")
    gate.set()
    for connection in connections:
        assert b"200 OK" in connection.recv(100)
        connection.close()
    _until_idle(service)
