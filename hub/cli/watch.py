"""``lorikeet-hub watch``: what hub and devices say to one another, as it passes the broker."""

import contextlib
import io
import json
import logging
import os
import queue
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hub.errors import ConfigError

if TYPE_CHECKING:
    from hub.watching.watcher import Line, Watcher
    from wire.broker_settings import BrokerSettings
    from wire.inbox import Inbox

EXAMPLE = "Example: lorikeet-hub watch --broker mqtt://127.0.0.1:1883 --fleet clinics"
DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
POLL_S = 0.25
_WHO_WIDTH = 16

log = logging.getLogger(__name__)


def watch(  # noqa: PLR0917  (options)
    broker: Annotated[
        str | None, typer.Option(help=f"mqtt://host:port; {DEFAULT_BROKER} if nothing is said.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A hub file that names the broker and the fleet.")
    ] = None,
    fleet: Annotated[
        str | None, typer.Option(help="Only this fleet; all of the broker's if nothing is said.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Only what concerns this device.")] = None,
    job: Annotated[str | None, typer.Option(help="Only what concerns this job.")] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Also count chunks, and show telemetry that has no news."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print each message as a JSON document on a line of its own (topic, retained, "
            "payload), and nothing else, on stdout.",
        ),
    ] = False,
) -> None:
    """Show what passes the broker, one line a message, until stopped (Ctrl-C).

    It only reads. Retained messages come first and are marked; what was said before is gone.
    """
    from hub.watching.watcher import Watcher
    from wire.errors import BrokerSettingsError
    from wire.inbox import Inbox
    from wire.link import Link, bounded
    from wire.topics import watch_filters

    where, fleet = _where(broker, config, fleet)
    for option, name in (("--fleet", fleet), ("--device", device), ("--job", job)):
        _check_name(option, name)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    inbox = Inbox(1000)
    try:
        link = Link(where, f"watch-{secrets.token_hex(6)}", bounded(inbox))
    except BrokerSettingsError as error:
        raise ConfigError("--broker", broker, "mqtt://host:port", message=str(error)) from error
    filters = watch_filters(fleet or "+", device, chunks=everything)
    for one in filters:
        link.subscribe(one)
    watcher = Watcher(one_fleet=fleet is not None, job=job, everything=everything)
    log.info("watching %s; Ctrl-C ends it", " and ".join(filters))
    with _stopping() as stopped:
        link.start()
        try:
            _show(inbox, watcher, stopped, as_json=as_json)
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            link.stop()


def _where(
    broker: str | None, config: Path | None, fleet: str | None
) -> "tuple[str | BrokerSettings, str | None]":
    """Return the broker, with credentials, and the fleet."""
    if config is None:
        return broker or DEFAULT_BROKER, fleet
    if broker is not None:
        raise ConfigError(
            "--broker",
            broker,
            "nothing beside --config",
            message="--broker and --config both name a broker; leave one of them away.",
        )
    from hub.config import load_hub_file

    settings = load_hub_file(config, insecure=True)  # nothing is listened on here
    return settings.broker_settings, fleet or settings.fleet


def _check_name(option: str, name: str | None) -> None:
    from wire.errors import MalformedError
    from wire.topics import check_name

    try:
        if name is not None:
            check_name(name, option)
    except MalformedError as error:
        raise ConfigError(option, name, "a name", message=str(error)) from error


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set; both mean a good end."""
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stopped.set()) for number in numbers]
    try:
        yield stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _show(inbox: "Inbox", watcher: "Watcher", stopped: threading.Event, *, as_json: bool) -> None:
    from hub.watching.reading import document, read
    from wire.link import Received

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a device's name must not end a narrow terminal
    put = _line_printer()
    while not stopped.is_set():
        event = None
        with contextlib.suppress(queue.Empty):
            event = inbox.get(timeout=POLL_S)
        if isinstance(event, Received):
            reading = read(event.topic, event.payload, event.retained)
            if not as_json:
                _put_all(put, watcher.take(reading, time.monotonic()))
            elif watcher.concerns(reading):
                # ASCII only: what JSON leaves as it is may still steer a terminal.
                sys.stdout.write(json.dumps(document(reading)) + "\n")
                sys.stdout.flush()
        _put_all(put, watcher.due(time.monotonic()))
    _put_all(put, watcher.rest())


def _put_all(put: "Callable[[Line], None]", lines: "list[Line]") -> None:
    for line in lines:
        put(line)


def _line_printer() -> "Callable[[Line], None]":
    """Return what prints a line: in colours on a terminal, plainly elsewhere."""
    from hub.cli.output import print_line

    if not sys.stdout.isatty():

        def plain(line: "Line") -> None:
            note = f"  [{line.note}]" if line.note else ""
            print_line(f"{time.strftime('%H:%M:%S')}  {line.who:<{_WHO_WIDTH}}  {line.text}{note}")

        return plain

    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def coloured(line: "Line") -> None:
        # Text, not markup: what devices say may hold brackets.
        text = Text()
        text.append(time.strftime("%H:%M:%S"), style="dim")
        text.append(f"  {line.who:<{_WHO_WIDTH}}", style="bold")
        text.append(f"  {line.text}", style=line.style)
        if line.note:
            text.append(f"  [{line.note}]", style="dim")
        console.print(text, soft_wrap=True)

    return coloured
