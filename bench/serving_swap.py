"""Adapters swapped under four concurrent streams: who waits how much longer, and who gets what.

In one process: the service that ``lorikeet-agent serve`` runs, its endpoint on loopback, and four
clients of it. An adapter is read from its folder and opened while answers are under way.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.report import BenchError, Row, at_most, checked, say, told
from bench.serving_memory import threads
from bench.serving_models import adapter_folder, base_file, shape_of
from edge_agent.errors import AgentError
from edge_agent.inference.contract import Session
from edge_agent.inference.llama.engine import LlamaEngine
from edge_agent.serving.adapter_folder import read_adapter_folder
from edge_agent.serving.generation import Generation
from edge_agent.serving.http_server import Server
from edge_agent.serving.prompts import chat_ids
from edge_agent.serving.remote import Remote
from edge_agent.serving.scheduler import Scheduler
from edge_agent.serving.service import Service
from edge_agent.training.tokenizer import load_tokenizer

_STREAMS, _ADAPTERS = 4, 3
_ANSWER = 24
_SWAPS, _QUICK_SWAPS = 100, 6
_QUIET_S = 15.0  # without a swap, to know how long a token takes
_MOST_EXTRA_S = 0.5
CONTEXT = 128

#: Tokens of a question, or of an answer.
Tokens = tuple[int, ...]
#: Sums are rounded otherwise where several sequences are computed together, so a choice counts only
#: if the second one is further than this, over the greatest logit.
_SURE = 0.02
_CANDIDATES, _KNOWN = 400, 1  # questions; first tokens by which an answer is known


@dataclass
class _Seen:
    """What the streams saw."""

    transcripts: list[tuple[Tokens, Tokens]] = field(default_factory=list)  # questions, answers
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)  # when, how long, in seconds


def swap_rows(folder: Path, *, quick: bool) -> list[Row]:
    """Return what swapping costs.

    Args:
        folder: where models are kept.
        quick: a small model and few swaps.
    """
    shape = shape_of(quick=quick)
    model = base_file(folder, shape)
    adapters = [adapter_folder(folder, shape, seed) for seed in range(1, _ADAPTERS + 1)]
    service = Service(
        LlamaEngine(model, threads=threads()),
        load_tokenizer(model),
        Scheduler(),
        name="bench",
        slots=_STREAMS,
        context=CONTEXT,
    )
    server = Server(service, "127.0.0.1", 0, None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    seen = _Seen()
    watched = _watch_tokens(seen)
    try:
        questions, wanted = _chosen(service, adapters)
        service.use(read_adapter_folder(adapters[-1]))
        swaps = _QUICK_SWAPS if quick else _SWAPS
        say(f"{swaps} swaps under {_STREAMS} streams")
        quiet_until, took = _storm(
            service,
            server.url,
            adapters=adapters,
            questions=questions,
            seen=seen,
            swaps=swaps,
        )
    finally:
        watched()
        server.shutdown()
        server.server_close()
        service.close()
    return _rows(seen, wanted, quiet_until, took, swaps)


def _rows(
    seen: _Seen,
    wanted: list[dict[Tokens, Tokens]],
    quiet_until: float,
    took: list[float],
    swaps: int,
) -> list[Row]:
    quiet = max((gap for at, gap in seen.gaps if at < quiet_until), default=0.0)
    busy = max((gap for at, gap in seen.gaps if at >= quiet_until), default=0.0)
    matches = [
        sum(answer[: len(one[question])] == one[question] for one in wanted)
        for question, answer in seen.transcripts
    ]
    shortest = min(len(answer) for one in wanted for answer in one.values())
    share = 100.0 * sum(one == 1 for one in matches) / max(1, len(matches))
    figure = f"{swaps} swaps of an adapter of rank 16 under four streams"
    failures = float(len(seen.failures))
    return [
        told("longest wait for a token without a swap", quiet, "s"),
        at_most(f"{figure}: longest extra wait", busy - quiet, "s", _MOST_EXTRA_S),
        told(f"{figure}: longest swap, until the next question gets it", max(took), "s"),
        checked(f"{figure}: failed requests", failures, "", "0", not seen.failures),
        told(f"{figure}: transcripts", float(len(matches))),
        told("fewest tokens by which an adapter's answer is known", float(shortest)),
        checked(f"{figure}: that match exactly one adapter", share, "%", "all", share == 100.0),
    ]


def _turns(number: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"question {number * 37} asks {'abcdefgh'[number % 8] * 5}"}
    ]


def _chosen(service: Service, adapters: list[Path]) -> tuple[list[int], list[dict[Tokens, Tokens]]]:
    """Return questions whose answers tell the adapters apart, and what each surely begins with."""
    sessions = [
        service.engine.open(read_adapter_folder(folder), slots=1, context=CONTEXT)
        for folder in adapters
    ]
    good: list[int] = []
    wanted: list[dict[Tokens, Tokens]] = [{} for _ in adapters]
    for number in range(_CANDIDATES):
        ids = tuple(chat_ids(service.tokenizer, _turns(number)))
        begins = [_sure(session, ids) for session in sessions]
        if len({one[:_KNOWN] for one in begins if len(one) >= _KNOWN}) == len(adapters):
            good.append(number)
            for one, begin in zip(wanted, begins, strict=True):
                one[ids] = begin
        if len(good) == _STREAMS:
            break
    for session in sessions:
        session.close()
    if len(good) < _STREAMS:
        raise BenchError(f"of {_CANDIDATES} questions {len(good)} tell the adapters apart.")
    return good, wanted


def _sure(session: Session, ids: Tokens) -> Tokens:
    session.keep(0, 0)
    answer: list[int] = []
    tokens: list[int] = list(ids)
    while len(answer) < _ANSWER:
        logits = session.feed({0: tokens})[0]
        second, first = np.sort(logits)[-2:]
        if first - second < _SURE * np.abs(logits).max():
            break
        answer.append(int(logits.argmax()))
        tokens = answer[-1:]
    return tuple(answer)


def _storm(
    service: Service,
    url: str,
    *,
    adapters: list[Path],
    questions: list[int],
    seen: _Seen,
    swaps: int,
) -> tuple[float, list[float]]:
    """Swap adapters under streams; return when the quiet time ended, and how long swaps took."""
    stop = threading.Event()
    lock = threading.Lock()

    def stream(number: int) -> None:
        ask = Remote(url, None, max_tokens=_ANSWER, temperature=0)
        while not stop.is_set():
            try:
                for _ in ask(_turns(number)):
                    pass
            except AgentError as error:
                with lock:
                    seen.failures.append(str(error))
            else:
                with lock:
                    seen.answers += 1

    running = [threading.Thread(target=stream, args=(number,)) for number in questions]
    seen.gaps.clear()
    seen.transcripts.clear()
    for one in running:
        one.start()
    time.sleep(_QUIET_S)
    quiet_until = time.monotonic()
    took = []
    for number in range(swaps):
        began = time.monotonic()
        service.use(read_adapter_folder(adapters[number % len(adapters)]))
        took.append(time.monotonic() - began)
        _await_answers(seen, lock)
    stop.set()
    for one in running:
        one.join()
    return quiet_until, took


def _await_answers(seen: _Seen, lock: threading.Lock) -> None:
    """Wait for two answers, so that each adapter is used before the next one comes."""
    with lock:
        before = seen.answers
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        with lock:
            if seen.answers >= before + 2:
                return
        time.sleep(0.02)


def _watch_tokens(seen: _Seen) -> Callable[[], None]:
    """Note how long each answer waits between its tokens; return what ends that."""
    original = Generation.take
    last: dict[int, float] = {}

    def take(self: Generation, logits: object, room: int) -> bool:
        now = time.monotonic()
        if id(self) in last:
            seen.gaps.append((now, now - last[id(self)]))
        last[id(self)] = now
        over = original(self, logits, room)  # type: ignore[arg-type]
        if over:
            del last[id(self)]
            seen.transcripts.append((tuple(self.request.ids), tuple(self.answer)))
        return over

    Generation.take = take  # type: ignore[method-assign,assignment]

    def end() -> None:
        Generation.take = original  # type: ignore[method-assign]

    return end
