"""``lorikeet-hub watch`` as a process of its own, on a real broker with real messages."""

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.broker import start_broker
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import FLEET, HubProcess, poll
from tests.system.recorder import Recorder
from tests.system.small_base import job_text
from tests.system.watch_process import SCRIPT, Watching
from wire.link import Connected, Link

pytestmark = pytest.mark.broker


@pytest.fixture
def watch() -> Iterator[Callable[..., Watching]]:
    started: list[Watching] = []

    def start(*arguments: str) -> Watching:
        started.append(Watching(*arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@contextlib.contextmanager
def connected(url: str) -> Iterator[Link]:
    """Give a connection over which a test speaks for a hub or a device."""
    there = threading.Event()
    link = Link(url, "speaker", lambda event: isinstance(event, Connected) and there.set())
    link.start()
    try:
        assert there.wait(10)
        yield link
    finally:
        link.stop()


@pytest.fixture
def link(broker: Any) -> Iterator[Link]:
    with connected(broker.url) as link:
        yield link


def test_a_job_is_told_in_words_and_nothing_is_published(
    watch: Callable[..., Watching], broker: Any, hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    watching = watch("--broker", broker.url, "--fleet", FLEET, "--all")
    watching.await_line("hub", "online, models at http://127.0.0.1:", "[retained, of ")
    fleet.join("j", a=("lora", 2), b=("lora", 2), c=("prompt", 0))
    hub.submit(job_text("j", base, rounds=1, cohort={"min": 3, "max": 9}))
    assert fleet.finish(hub, "j").summary.phase == "done"
    watching.await_line("job j", "round 1 of 1: done")
    for words in (
        ("  a  ", "hello: agent test, wire 1"),
        ("hub → a", "welcome, session ", " (hello)"),
        ("  a  ", "ready"),
        ("  c  ", "test, 1 cores, 1.0 GB (test); j: prompt"),
        ("job j", "round 1 of 1: open, adapter "),
        ("job j", "round 1 of 1: training"),
        ("hub → a", "offers j.1.a: train as lora rank 2 resident, "),
        ("hub → c", "offers j.1.c: train as prompt, "),
        ("  a  ", "takes j.1.a"),
        ("hub → a", "accepted (take j.1.a)"),
        ("job j", "slice manifest: 1 chunk, "),
        ("  a  ", "wants to send ", " for j.1.a (blob "),
        ("hub → a", "credit: lacks 1 chunk of blob ", " (blob-init j.1.a)"),
        ("  a  ", "update: 1 chunk, "),
        ("  a  ", "done with j.1.a: loss 2.0000 to 1.9000 in 1 steps, update (blob "),
        ("hub → a", "accepted (result j.1.a)"),
    ):
        watching.await_line(*words)
    assert "malformed" not in "".join(watching.lines)
    assert "doesn't know" not in "".join(watching.lines)
    assert "\x1b" not in "".join(watching.lines)  # no colours where nobody looks
    assert watching.end() == 0
    assert "Traceback" not in "".join(watching.log)


def test_it_only_reads(watch: Callable[..., Watching], broker: Any, link: Link) -> None:
    with Recorder("127.0.0.1", broker.port) as recorder:
        watching = watch("--broker", broker.url)
        watching.await_log("watching lorikeet/v1/+/#")
        state = "lorikeet/v1/clinics/d/ward/state"
        link.publish(state, b'{"state":"ready","session":"s","ts":1}', retain=True)
        watching.await_line("clinics/ward", "ready")
        assert watching.end(signal.SIGTERM) == 0
        watching = watch("--broker", broker.url)
        watching.await_line("clinics/ward", "ready", "[retained, of ")
        watching.kill()  # even a broken connection leaves no last will
        link.publish("end", b"")
        poll("the last message", lambda: recorder.messages[-1].topic == "end")
        assert [one.topic for one in recorder.messages] == [state, "end"]


def test_each_message_is_a_json_document_on_a_line(
    watch: Callable[..., Watching], broker: Any, link: Link
) -> None:
    state = "lorikeet/v1/clinics/d/ward/state"
    link.publish(
        state, b'{"state":"alert","session":"s","ts":1,"reason":"\xc2\x9b2J"}', retain=True
    )
    watching = watch("--broker", broker.url, "--fleet", "clinics", "--json")
    watching.await_line("ward/state")
    link.publish("lorikeet/v1/clinics/new", b"\xff\x1b[2J")
    link.publish("lorikeet/v1/schools/hub/state", b"{}")
    link.publish("lorikeet/v1/clinics/last", b'{"a": [1]}')
    watching.await_line("clinics/last")
    assert watching.end() == 0
    first, second, third = (json.loads(line) for line in watching.lines)
    assert first == {
        "topic": state,
        "retained": True,
        "payload": {"state": "alert", "session": "s", "ts": 1, "reason": "\x9b2J"},
    }
    assert second["topic"] == "lorikeet/v1/clinics/new"
    assert (second["payload"], second["retained"]) == (None, False)
    assert third["payload"] == {"a": [1]}
    assert all(line.isascii() for line in watching.lines)


def test_one_device_is_watched_alone_and_hostile_bytes_are_made_harmless(
    watch: Callable[..., Watching], broker: Any, link: Link
) -> None:
    watching = watch("--broker", broker.url, "--fleet", "clinics", "--device", "ward")
    own = "lorikeet/v1/clinics/d/ward"
    link.publish(f"{own}/info", b"ready?", retain=True)
    watching.await_line("malformed, 6 bytes")
    link.publish("lorikeet/v1/clinics/d/hall/info", b"other")
    link.publish(f"{own}/up/event/oom", b"\xff" * 1000 + b"\x1b[2J\n\n")
    link.publish(f"{own}/up/event/data", b'{"type":"data","session":"s","ts":1,"detail":'
                 b'"\\u001b[2J\\n12:00:00  hub  accepted"}')  # fmt: skip
    link.publish(f"{own}/state", b'{"state":"ready","session":"s","ts":1}')
    watching.await_line("ready")
    assert watching.end() == 0
    assert len(watching.lines) == 4
    assert all(line.rstrip("\n").isprintable() for line in watching.lines)
    assert "event data: \ufffd[2J\ufffd12:00:00  hub  accepted" in watching.lines[2]


def test_a_broker_that_goes_away_is_waited_for(
    watch: Callable[..., Watching], broker: Any, tmp_path: Path
) -> None:
    broker.kill()
    config = tmp_path / "hub.yaml"
    config.write_text(f"fleet: clinics\nbroker: {{url: '{broker.url}'}}\n")
    watching = watch("--config", str(config))
    watching.await_log("is away", "trying again")
    broker.start()
    with connected(broker.url) as link:
        state = b'{"online":true,"ts":1,"epoch":"e"}'
        link.publish("lorikeet/v1/clinics/hub/state", state, retain=True)
        watching.await_line("hub", "online")
    assert watching.end() == 0


def test_an_amqtt_broker_is_watched_likewise(
    watch: Callable[..., Watching], tmp_path: Path
) -> None:
    broker = start_broker(tmp_path / "amqtt", kind="amqtt")
    try:
        with connected(broker.url) as link:
            link.publish(
                "lorikeet/v1/f/d/ward/state", b'{"state":"ready","session":"s","ts":1}', retain=True
            )
            watching = watch("--broker", broker.url)
            watching.await_line("f/ward", "ready", "[retained, of ")
            link.publish("lorikeet/v1/f/hub/state", b'{"online":true,"ts":1,"epoch":"e"}')
            watching.await_line("f/hub", "online")
        assert watching.end() == 0
    finally:
        broker.stop()
    assert len(watching.lines) == 2


def test_a_terminal_gets_colours_and_what_devices_say_is_no_markup(broker: Any, link: Link) -> None:
    link.publish(
        "lorikeet/v1/clinics/d/ward/state",
        b'{"state":"lost","session":"s","ts":1,"reason":"[bold]x[/bold] \\u001b[2J"}',
        retain=True,
    )
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [str(SCRIPT), "watch", "--broker", broker.url],
        stdout=terminal,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", "NO_COLOR": ""},
    )
    os.close(terminal)
    try:
        shown = b""
        poll("a readable terminal", lambda: select.select([main], [], [], 0.1)[0])
        while b"\n" not in shown:
            shown += os.read(main, 4096)
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
    # ECMA-48, 8.3.117 (SGR): 31 is red, 0 ends it.
    assert "\x1b[31m  lost: [bold]x[/bold] \ufffd[2J\x1b[0m" in shown.decode()


def test_a_reader_that_has_seen_enough_ends_it(
    watch: Callable[..., Watching], broker: Any, link: Link
) -> None:
    theirs, ours = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [str(SCRIPT), "watch", "--broker", broker.url], stdout=ours, stderr=subprocess.PIPE
        )
        ours.close()
        link.publish("lorikeet/v1/clinics/hub/state", b"{}", retain=True)
        theirs.settimeout(20)
        assert b"malformed" in theirs.recv(4096)
    link.publish("lorikeet/v1/clinics/hub/state", b"{}")
    try:
        _, log = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert b"Traceback" not in log
    assert b"BrokenPipe" not in log
