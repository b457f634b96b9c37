"""``lorikeet-agent enroll``: the device gets its certificate from the hub."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.errors import UsageError
from edge_agent.option_values import default_device, default_state

EXAMPLE = (
    "Example: LORIKEET_TOKEN=lk1... lorikeet-agent enroll --hub https://hub.lan:8443 --name ward, "
    "then lorikeet-agent run --data my.jsonl"
)
_MAX_TOKEN_BYTES = 4096
_MAX_CA_BYTES = 64 * 1024


def enroll(  # noqa: PLR0917  (options)
    hub: Annotated[
        str | None,
        typer.Option(help="https://host:port, as the hub's operator says.", show_default=False),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="LORIKEET_TOKEN",
            help="The single-use token. In the environment it stands in no process list.",
            show_default=False,
            show_envvar=True,
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file whose first line is the token; - is stdin.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="The id that it would like. Default: the host's name."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(help="The hub's authority (PEM). Default: the one that the token names."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Where the agent keeps its files. Default: the XDG state folder."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make a new key and get another identity.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:  # fmt: skip
    """Get this device's certificate: its key is made here, and stays here.

    Waits until the hub's operator approves, unless the token says that none need to. It may be
    repeated after a crash.
    """
    from edge_agent.enrolment.enrol import Wishes, enrol

    folder = state or default_state(default_device())
    wishes = Wishes(
        hub=hub,
        token=token if token_file is None else _first_line(token_file),
        name=name or default_device(),
        ca=_text_of(ca) if ca is not None else None,
        again=again,
    )

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    identity = enrol(folder, wishes, say, time.sleep)
    days = identity.days_left(time.time())
    if as_json:
        import msgspec

        document = {**msgspec.to_builtins(identity), "state": str(folder)}
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
        return
    sys.stdout.write(
        f"enrolled as {identity.device} of fleet {identity.fleet}; the certificate is good for "
        f"{days:.0f} days and renews itself\nnow: lorikeet-agent run --data my.jsonl\n"
    )


def _first_line(path: Path) -> str:
    try:
        if str(path) == "-":
            return sys.stdin.readline(_MAX_TOKEN_BYTES)
        with path.open() as file:
            return file.readline(_MAX_TOKEN_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"--token-file is {path}; it can't be read: {why}.") from error


def _text_of(path: Path) -> str:
    try:
        with path.open() as file:
            return file.read(_MAX_CA_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UsageError(f"--ca is {path}; it can't be read: {why}.") from error
