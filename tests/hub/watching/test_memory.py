from typing import Any

import pytest

from hub.watching import memory
from hub.watching.memory import Memory
from wire.messages import (
    Accepted,
    BlobInit,
    DeviceEvent,
    Hello,
    Message,
    Report,
    Take,
    TaskProgress,
    Telemetry,
)
from wire.topics import Route
from wire.transfer import Chunk

TASK = "my.notes.12.ward.2"  # of the job my.notes and the device ward.2


def request(name: str, device: str = "ward.2") -> Route:
    return Route("request", device=device, name=name)


def take(id_: str = "7") -> Take:
    return Take(id=id_, session="s", task=TASK, accept=True)


REPLY = Route("reply", device="ward.2")
ACCEPTED = Accepted(re="7", session="s")


def test_a_reply_is_told_with_what_it_answers() -> None:
    known = Memory()
    known.note("f", request("take"), take())
    assert known.asked("f", REPLY, ACCEPTED) == "take my.notes.12.ward.2"
    assert known.asked("f", Route("reply", device="hall"), ACCEPTED) == ""
    assert known.asked("g", REPLY, ACCEPTED) == ""
    known.note("f", request("hello"), Hello(id="8", session="s", agent_version="", wire_version=1))
    assert known.asked("f", REPLY, Accepted(re="8", session="s")) == "hello"


@pytest.mark.parametrize(
    ("route", "content", "job"),
    [
        (Route("slice_chunk", job="my.notes", name="lora-0"), Chunk(b"k" * 8, 0, 0, b"", 0),
         "my.notes"),
        (request("take"), take(), "my.notes"),
        (REPLY, ACCEPTED, "my.notes"),
        (REPLY, Accepted(re="other", session="s"), None),
        (Route("upload_chunk", device="ward.2"), Chunk(bytes(8), 0, 0, b"", 0), "my.notes"),
        (Route("upload_chunk", device="ward.2"), Chunk(b"k" * 8, 0, 0, b"", 0), None),
        (Route("telemetry", device="ward.2"),
         Telemetry(session="s", ts=1, supervisor_rss_bytes=1,
                   task=TaskProgress(task=TASK, stage="train")), "my.notes"),
        (Route("telemetry", device="ward.2"),
         Telemetry(session="s", ts=1, supervisor_rss_bytes=1), None),
        (Route("event", device="ward.2", name="oom"),
         DeviceEvent(type="oom", session="s", ts=1, detail="", job="other"), "other"),
        (Route("event", device="ward.2", name="oom"),
         DeviceEvent(type="oom", session="s", ts=1, detail=""), None),
        (request("take"), Take(id="1", session="s", task="nonsense", accept=True), None),
        (Route("command", device="ward.2", name="report"), Report(session="s"), None),
    ],
)  # fmt: skip
def test_the_job_of_a_message_is_known_where_it_can_be(
    route: Route, content: Message | Chunk, job: str | None
) -> None:
    known = Memory()
    known.note("f", request("take"), take())
    upload = BlobInit(id="9", session="s", task=TASK, sha256="00" * 32, size_bytes=1)
    known.note("f", request("blob-init"), upload)
    assert known.job_of("f", route, content) == job


def test_the_oldest_is_forgotten(monkeypatch: Any) -> None:
    monkeypatch.setattr(memory, "MAX_REMEMBERED", 2)
    known = Memory()
    for id_ in ("7", "8", "9"):
        known.note("f", request("take"), take(id_))
    assert known.asked("f", REPLY, ACCEPTED) == ""
    assert known.asked("f", REPLY, Accepted(re="8", session="s")) == "take my.notes.12.ward.2"
