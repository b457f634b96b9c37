"""Adapters swapped under concurrent streams: each answer is one adapter's, whole."""

import threading
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't built: make llama")

from edge_agent.inference.llama.engine import LlamaEngine
from edge_agent.serving.generation import Begun, Ended, Piece
from edge_agent.serving.sampling import Sampling
from edge_agent.serving.scheduler import Scheduler
from edge_agent.serving.service import Service, Wish
from edge_agent.serving.text_stream import TextStream
from edge_agent.training.tokenizer import Tokenizer, load_tokenizer
from tests.edge_agent.serving.model import greedy, random_adapter

MOST = 20
WISH = Wish(most=MOST, sampling=Sampling(temperature=0))
TEXTS = ("once", "upon a time", "there", "was a bird that", "sang", "by day", "and slept")


@pytest.fixture
def service(gguf: Path) -> Iterator[Service]:
    made = Service(
        LlamaEngine(gguf), load_tokenizer(gguf), Scheduler(), name="x", slots=3, context=64
    )
    yield made
    made.close()


def test_each_answer_is_one_adapters(service: Service, gguf: Path, served_base: Path) -> None:
    adapters = [random_adapter(served_base, seed) for seed in (1, 2, 3)]
    tokenizer = load_tokenizer(gguf)
    wanted = {
        (one.name, text): _text(tokenizer, greedy(gguf, one, ids, MOST, sure=0.003))
        for one in adapters
        for text in TEXTS
        for ids in [tokenizer.ids(text)]
    }
    # A beginning of a few letters tells adapters apart.
    texts = [text for text in TEXTS if all(len(wanted[one.name, text]) > 2 for one in adapters)][:4]
    assert len(texts) == 4
    found: list[tuple[str, str, str]] = []
    stop = threading.Event()

    def stream(text: str) -> None:
        while not stop.is_set():
            generation = service.complete(text, WISH)
            adapter, said = "", ""
            while True:
                match generation.told.get(timeout=60):
                    case Begun(adapter=name):
                        adapter = name
                    case Piece(text=piece):
                        said += piece
                    case Ended():
                        break
                    case other:
                        raise AssertionError(other)
            found.append((adapter, text, said))

    service.use(adapters[0])
    streams = [threading.Thread(target=stream, args=(text,)) for text in texts]
    for one in streams:
        one.start()
    for number in range(1, 13):
        before = len(found)
        service.use(adapters[number % 3])
        while len(found) < before + 4:
            assert any(one.is_alive() for one in streams)
            threading.Event().wait(0.01)
    stop.set()
    for one in streams:
        one.join(60)
    assert {adapter for adapter, _, _ in found} == {one.name for one in adapters}
    for adapter, text, said in found:
        begins = {one: begin for (one, of), begin in wanted.items() if of == text}
        assert [one for one, begin in begins.items() if said.startswith(begin)] == [adapter]
    assert service.swaps == 12


def _text(tokenizer: Tokenizer, ids: list[int]) -> str:
    """Return what tokens say for certain, up to the model's end."""
    stream = TextStream(tokenizer.text)
    found = [stream.add(one) for one in takewhile(lambda one: one != tokenizer.eos_id, ids)]
    return "".join(found)
