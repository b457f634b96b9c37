"""Which lines come out, in which words, and which are left out."""

import pytest

from hub.watching import watcher as module
from hub.watching.reading import read
from hub.watching.watcher import MAX_LINE, Line, Watcher
from wire.messages import (
    Accepted,
    Cancel,
    DeviceState,
    HubState,
    Message,
    Refused,
    Take,
    TaskProgress,
    Telemetry,
    encode,
)
from wire.transfer import encode_chunk

W = "lorikeet/v1/clinics"
B = "lorikeet-data/v1/clinics"


def telemetry(stage: str = "", step: int = 0, paused: str | None = None) -> Telemetry:
    task = TaskProgress(task="notes.1.ward", stage=stage, step=step, steps=9) if stage else None
    return Telemetry(session="s", ts=1.0, supervisor_rss_bytes=1, task=task, paused=paused)


def watching(*, job: str | None = None, everything: bool = False) -> Watcher:
    return Watcher(one_fleet=True, job=job, everything=everything)


def take(watcher: Watcher, topic: str, message: Message | bytes, retained: bool = False,
         now: float = 0.0) -> list[Line]:  # fmt: skip
    payload = message if isinstance(message, bytes) else encode(message)
    return watcher.take(read(topic, payload, retained), now)


@pytest.mark.parametrize(
    ("topic", "message", "who"),
    [
        (f"{W}/hub/state", HubState(online=True, ts=1, epoch="e"), "hub"),
        (f"{W}/d/ward/state", DeviceState(state="ready", session="s", ts=1), "ward"),
        (f"{W}/d/ward/down/cmd/cancel", Cancel(session="s", task="t", reason=""), "hub → ward"),
        (f"{W}/job/notes/round", b"{}", "job notes"),
        (f"{W}/something/new", b"{}", f"{W}/something/new"),
    ],
)
def test_a_line_says_who_speaks_to_whom(topic: str, message: Message | bytes, who: str) -> None:
    [line] = take(watching(), topic, message)
    assert line.who == who
    several = Watcher(one_fleet=False, everything=False)
    [line] = take(several, topic, message)
    assert line.who == (who if "new" in topic else f"clinics/{who}")


def test_retained_messages_are_marked_with_the_time_at_which_they_were_said() -> None:
    state = DeviceState(state="ready", session="s", ts=1e9)
    [line] = take(watching(), f"{W}/d/ward/state", state, retained=True)
    assert (line.text, line.note) == ("ready", "retained, of 01:46:40")
    will = HubState(online=False, ts=0, epoch="e")
    assert take(watching(), f"{W}/hub/state", will, True)[0].note == "retained"
    assert take(watching(), f"{W}/d/ward/state", state)[0].note == ""


def test_a_retained_message_that_comes_again_is_shown_once_unless_something_else_was() -> None:
    watcher = watching()
    topic = f"{W}/d/ward/state"
    ready = DeviceState(state="ready", session="s", ts=1)
    lost = DeviceState(state="lost", session="s", ts=0)
    come = [(ready, True), (ready, True), (ready, False), (ready, True), (lost, False),
            (ready, True)]  # fmt: skip
    shown = [len(take(watcher, topic, message, retained)) for message, retained in come]
    assert shown == [1, 0, 1, 0, 1, 1]


def test_a_reply_names_what_it_answers() -> None:
    watcher = watching()
    request = Take(id="7", session="s", task="notes.1.ward", accept=True)
    take(watcher, f"{W}/d/ward/up/req/take", request)
    [line] = take(watcher, f"{W}/d/ward/down/res", Accepted(re="7", session="s"))
    assert (line.who, line.text) == ("hub → ward", "accepted (take notes.1.ward)")
    [line] = take(watcher, f"{W}/d/ward/down/res", Refused(re="8", session="s", reason="no"))
    assert line.text == "refused: no"


def test_telemetry_is_shown_when_it_has_news_and_always_with_all() -> None:
    said = [
        telemetry(),  # nothing runs, as before
        telemetry("train", 1),
        telemetry("train", 2),
        telemetry("paused", 2, "it is hot"),
        telemetry("upload"),
        telemetry(),
        telemetry(),
    ]
    news, all_ = watching(), watching(everything=True)
    topic = f"{W}/d/ward/up/telemetry"
    assert [len(take(news, topic, one)) for one in said] == [0, 1, 0, 1, 1, 1, 0]
    assert [len(take(all_, topic, one)) for one in said] == [1] * 7
    assert len(take(news, f"{W}/d/hall/up/telemetry", telemetry("train", 2))) == 1


def test_telemetry_of_more_devices_than_are_remembered_is_shown_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_DEVICES", 1)
    watcher = watching()
    for device, lines in (("a", 1), ("b", 1), ("b", 0), ("a", 1)):
        topic = f"{W}/d/{device}/up/telemetry"
        assert len(take(watcher, topic, telemetry("train", 1))) == lines


@pytest.mark.parametrize(
    ("topic", "who", "what"),
    [
        (f"{B}/job/notes/slice/lora-0", "job notes", "slice lora-0"),
        (f"{B}/d/ward/up", "ward", "update"),
        (f"{B}/d/ward/down", "hub → ward", "repair"),
    ],
)
def test_chunks_are_one_line_a_blob(topic: str, who: str, what: str) -> None:
    watcher = watching(everything=True)
    for index in range(3):
        chunk = encode_chunk("6f1c2a9e" * 8, index, bytes(65_536))
        assert take(watcher, topic, chunk, now=index / 10) == []
    [line] = watcher.due(2.0)
    assert (line.who, line.text) == (who, f"{what}: 3 chunks, 196,608 bytes (blob 6f1c2a9e)")
    take(watcher, topic, encode_chunk("0" * 64, 0, b"x"), now=3.0)
    assert [one.text for one in watcher.rest()] == [f"{what}: 1 chunk, 1 byte (blob 00000000)"]


def test_with_a_job_only_what_concerns_it_is_shown() -> None:
    watcher = watching(job="notes", everything=True)
    mine = Take(id="7", session="s", task="notes.1.ward", accept=True)
    other = Take(id="8", session="s", task="notes.2.1.ward", accept=True)  # of the job notes.2
    assert take(watcher, f"{W}/d/ward/up/req/take", mine)
    assert take(watcher, f"{W}/d/ward/up/req/take", other) == []
    assert take(watcher, f"{W}/d/ward/down/res", Accepted(re="7", session="s"))
    assert take(watcher, f"{W}/d/ward/down/res", Accepted(re="8", session="s")) == []
    ready = DeviceState(state="ready", session="s", ts=1)
    assert take(watcher, f"{W}/d/ward/state", ready) == []
    assert take(watcher, f"{W}/d/ward/state", b"{") == []


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "cleared: nothing is retained here any more"),
        (b"{", "malformed, 1 byte: not a DeviceState: Input data was truncated"),
        (b"\xff" * 1500, "malformed, 1,500 bytes: not a DeviceState: "),
        (b'{"state":"\\u001b[2J","session":"s","ts":1}', "Invalid enum value '\\x1b[2J'"),
    ],
)
def test_what_is_no_message_is_told_harmlessly(payload: bytes, text: str) -> None:
    [line] = take(watching(), f"{W}/d/ward/state", payload)
    assert text in line.text
    assert line.text.isprintable()


def test_a_hostile_message_stays_one_harmless_line() -> None:
    reason = "\x1b]0;owned\x07\nward  accepted" + "\u202e" + "x" * 5000
    hostile = DeviceState(state="alert", session="s", ts=1e300, reason=reason)
    [line] = take(watching(), f"{W}/d/ward/state", hostile, retained=True)
    assert line.text.startswith("alert: \ufffd]0;owned\ufffd\ufffdward  accepted\ufffdxxx")
    assert line.text.isprintable()
    assert len(line.text) <= MAX_LINE
    assert line.note == "retained, of no known time"
    [line] = take(watching(), "lorikeet/v1/clinics/\x1b[2J" + "y" * 500, b"{}")
    assert line.who.isprintable()
    assert len(line.who) <= 200
