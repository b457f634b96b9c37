"""``lorikeet-agent serve`` and ``chat``, once their options are read: a process of its own.

As with `run`, the command line's library leaves the memory with the process that read the options.
"""

import os
import sys
from typing import Literal, NoReturn

import msgspec

from edge_agent.errors import UsageError

Engine = Literal["llama.cpp", "onnxruntime"]
#: In place of ``--token-file``.
TOKEN_VARIABLE = "LORIKEET_SERVE_TOKEN"  # noqa: S105 - a variable's name
LOCAL = ("localhost", "127.0.0.1", "::1")


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a server, or a chat without one, was started with.

    Attributes:
        state: folder of the agent whose adapters are served.
        job: of that agent; empty for the one that was announced last.
        model: a file or folder to serve in place of what the agent has.
        adapter: a folder to serve in place of what the agent has.
        engine: empty for the one that reads the model's file.
        slots: answers at a time.
        context: tokens of a question with its answer.
        threads: for computing.
        repack: whether llama.cpp copies weights into an order that is faster.
        queue: requests that may wait.
        host, port: to listen on.
        token_file: whose first line callers must give.
        system: what a chat begins with.
        url: of a server that a chat asks, empty for none.
        max_tokens: of each answer of a chat.
        temperature: of a chat.
        as_json: print one JSON document at the end.
    """

    state: str
    job: str = ""
    model: str | None = None
    adapter: str | None = None
    engine: Engine | None = None
    slots: int = 4
    context: int = 1024
    threads: int = 1
    repack: bool = False
    queue: int = 32
    host: str = "127.0.0.1"
    port: int = 8090
    token_file: str | None = None
    system: str = ""
    url: str = ""
    max_tokens: int | None = None
    temperature: float = 0.7
    as_json: bool = False


def become(module: str, settings: ServeSettings) -> NoReturn:
    """Replace this process by one that runs a module of `edge_agent.serving`.

    Args:
        module: its name there.
        settings: what it is started with.

    Raises:
        UsageError: a path is not UTF-8.
    """
    try:
        words = msgspec.json.encode(settings).decode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not UTF-8; give it another name.") from error
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: nothing in the current folder may stand in for a module of ours.
    command = [sys.executable, "-P", "-m", f"edge_agent.serving.{module}", words]
    os.execv(sys.executable, command)  # noqa: S606  (no shell is wanted)


def address_of(listen: str) -> tuple[str, int]:
    """Return host and port of ``--listen``.

    Raises:
        UsageError: it is no address.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--listen is {listen!r}; must be host:port, such as 127.0.0.1:8090.")
    return host, int(port)


def check_token(host: str, token_file: str | None) -> None:
    """Refuse to listen beyond this machine where anybody may ask.

    Raises:
        UsageError: there is no token.
    """
    if host not in LOCAL and token_file is None and not os.environ.get(TOKEN_VARIABLE):
        raise UsageError(
            f"--listen is {host}, which others can reach; then callers must give a token. Write "
            f"one into a file and name it: --token-file FILE, or set {TOKEN_VARIABLE}."
        )
