"""``lorikeet-agent chat``: a conversation in the terminal, streamed."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from rich.console import Console
from rich.text import Text

from edge_agent.endings import exit_codes
from edge_agent.errors import AgentError, UsageError
from edge_agent.run_command import log_to_stderr
from edge_agent.serve_command import ServeSettings
from edge_agent.serving.generation import Broke, Ended, Piece
from edge_agent.serving.remote import Remote
from edge_agent.serving.sampling import Sampling
from edge_agent.serving.service import Service, Wish
from edge_agent.serving.token import read_token

#: Answers a conversation, piece by piece.
Ask = Callable[[Sequence[Mapping[str, str]]], Iterator[str]]


def local(service: Service, settings: ServeSettings) -> Ask:
    """Return what asks a service in this process."""
    wish = Wish(settings.max_tokens, (), Sampling(temperature=settings.temperature))

    def ask(turns: Sequence[Mapping[str, str]]) -> Iterator[str]:
        generation = service.chat(turns, wish)
        try:
            while True:
                match generation.told.get():
                    case Piece(text=text):
                        yield text
                    case Ended():
                        return
                    case Broke(message=message):
                        raise AgentError(message)
                    case _:
                        continue
        finally:
            generation.cancelled.set()

    return ask


def converse(ask: Ask, system: str, console: Console) -> None:
    """Read questions and write answers, until an empty line or the end of the input."""
    turns = [{"role": "system", "content": system}] if system else []
    while True:
        try:
            question = console.input("[bold cyan]you[/] ")
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        if not question.strip():
            return
        turns.append({"role": "user", "content": question})
        answer = _answer(ask, turns, console)
        if answer is None:
            turns.pop()
        else:
            turns.append({"role": "assistant", "content": answer})


def _answer(ask: Ask, turns: Sequence[Mapping[str, str]], console: Console) -> str | None:
    """Write an answer as it comes; None if it was interrupted or failed."""
    console.print("[bold green]it [/] ", end="")
    pieces: list[str] = []
    told = ask(turns)
    try:
        for piece in told:
            pieces.append(piece)
            # What a model writes is no markup, and controls no terminal.
            console.print(Text(_printable(piece)), end="", soft_wrap=True)
    except KeyboardInterrupt:
        console.print(" [dim](interrupted)[/]")
        return None
    except AgentError as error:
        console.print(f"\n[red]{error}[/]")
        return None
    finally:
        close = getattr(told, "close", None)
        if close is not None:
            close()
    console.print()
    return "".join(pieces)


def _printable(text: str) -> str:
    return "".join(one for one in text if one.isprintable() or one in "\n\t")


def _once(ask: Ask, system: str) -> None:
    """Answer what standard input holds with one document."""
    question = sys.stdin.read().strip()
    if not question:
        raise UsageError("standard input holds no question.")
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": question})
    document = {"answer": "".join(ask(turns))}
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


def main() -> None:
    """Hold the conversation that the first argument describes."""
    log_to_stderr()
    settings = msgspec.json.decode(sys.argv[1], type=ServeSettings)
    if not settings.as_json:
        logging.getLogger().setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with exit_codes():
        if settings.url:
            token = read_token(settings.token_file)
            _talk(
                Remote(
                    settings.url,
                    token,
                    max_tokens=settings.max_tokens,
                    temperature=settings.temperature,
                ),
                settings,
            )
            return
        from edge_agent.serving.start import Served

        served = Served(settings, threading.Event())
        try:
            _talk(local(served.service, settings), settings)
        finally:
            served.close()


def _talk(ask: Ask, settings: ServeSettings) -> None:
    if settings.as_json:
        _once(ask, settings.system)
    else:
        converse(ask, settings.system, Console(highlight=False))


if __name__ == "__main__":
    main()
