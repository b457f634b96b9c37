"""Each message in words, written by hand."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.watching.words import say
from tests.wire.test_messages import every, strategy, struct_of
from wire.messages import (
    Accepted,
    AdapterRef,
    BaseRef,
    BlobFin,
    BlobGet,
    BlobInfo,
    BlobInit,
    Cancel,
    Credit,
    DataSummary,
    DeviceEvent,
    DeviceInfo,
    DeviceState,
    Evaluated,
    Evaluation,
    Hello,
    HubState,
    JobKnobs,
    LocalWork,
    Message,
    ModelShape,
    Offer,
    Refused,
    Report,
    Result,
    RoundAnnounce,
    RoundPhase,
    RungPlan,
    Take,
    TaskPeak,
    TaskProgress,
    Telemetry,
    TrainMetrics,
    Welcome,
)

S = "2df7c5964385"
BLOB = "6f1c2a9e" + "0" * 56
TASK = "notes.1.ward"
KNOBS = JobKnobs(
    method="lora", rank=16, min_rank=2, batch=4, min_batch=1, seq_len=256, min_seq_len=128
)
SHAPE = ModelShape(
    model_type="llama", hidden_size=64, layers=2, mlp_size=128, heads=4, kv_heads=4, head_dim=16,
    vocab_size=256, tied_embeddings=False, parameters=100_000, weight_bytes=2,
)  # fmt: skip
BASE = BaseRef(name="base", digest="d", size_bytes=1, shape=SHAPE)


def plan(role: Any, rung: str, rank: int, missing_bytes: int = 0) -> RungPlan:
    return RungPlan(
        role=role, rung=rung, rank=rank, batch=4, seq_len=256, predicted_peak_bytes=1,
        fits=not missing_bytes, missing_bytes=missing_bytes,
    )  # fmt: skip


def announce(**fields: Any) -> RoundAnnounce:
    given: dict[str, Any] = {"job": "notes", "round": 1, "rounds": 3, "ts": 1e9, "knobs": KNOBS,
                             "base": BASE}  # fmt: skip
    return RoundAnnounce(**given | fields)


def info(**fields: Any) -> DeviceInfo:
    given: dict[str, Any] = {
        "session": S, "ts": 1e9, "agent_version": "0.1.0", "wire_version": 1, "machine": "x86_64",
        "cores": 4.0, "memory_limit_bytes": 900_000_000, "memory_reason": "--memory", "codecs": [],
    }  # fmt: skip
    return DeviceInfo(**given | fields)


def offer(**fields: Any) -> Offer:
    given: dict[str, Any] = {
        "session": S, "task": TASK, "job": "notes", "round": 1, "kind": "train", "role": "lora",
        "rung": "streamed", "rank": 8, "adapter": AdapterRef(sha256=BLOB, size_bytes=300),
        "base": "d", "http": "http://h", "codec": "int8", "deadline_s": 600.0,
        "work": LocalWork(steps=10, batch=4, seq_len=256, optimizer="adamw", lr=0.001, seed=7),
    }  # fmt: skip
    return Offer(**given | fields)


def result(**fields: Any) -> Result:
    given: dict[str, Any] = {
        "id": "9", "session": S, "task": TASK, "job": "notes", "round": 1, "status": "done"
    }  # fmt: skip
    return Result(**given | fields)


def telemetry(**fields: Any) -> Telemetry:
    return Telemetry(session=S, ts=1e9, supervisor_rss_bytes=28_000_000, **fields)


REQUEST = {"id": "9", "session": S}
REPLY = {"re": "9", "session": S}
TRAIN = TrainMetrics(steps=10, tokens=100, loss_first=2.4, loss_last=2.31, seconds_per_step=1.0)
LOSSES = [
    Evaluation(variant="base", loss=2.3012, tokens=9),
    Evaluation(variant="adapter", loss=2.2, tokens=9),
]
PEAK = TaskPeak(task=TASK, rung="streamed", predicted_peak_bytes=400_000_000,
                measured_peak_bytes=512_000_000, limit_bytes=500_000_000, error=-0.2)  # fmt: skip

SAID: list[tuple[Message, str, str]] = [
    (HubState(online=True, ts=1e9, epoch="e", http="http://10.0.0.5:8080"),
     "online, models at http://10.0.0.5:8080", "green"),
    (HubState(online=False, ts=0, epoch="e"), "offline", "red"),
    (announce(phase="training", adapter=AdapterRef(sha256=BLOB, size_bytes=1), deadline_ts=1e9),
     "round 1 of 3: training, adapter 6f1c2a9e, until 01:46:40", "bold"),
    (announce(round=0, phase="open", reason="2 of 3 devices are there"),
     "round 0 of 3: open: 2 of 3 devices are there", "bold"),
    (announce(round=3, phase="failed", reason="nobody came"),
     "round 3 of 3: failed: nobody came", "red"),
    (RoundPhase(job="notes", round=2, rounds=3, phase="collecting", ts=1e9, deadline_ts=1e9),
     "round 2 of 3: collecting, until 01:46:40", "bold"),
    (DeviceState(state="ready", session=S, ts=1e9), "ready", "green"),
    (DeviceState(state="alert", session=S, ts=1e9, reason="91 °C"), "alert: 91 °C", "red"),
    (info(data=DataSummary(examples=100, held_out=10, skipped=0),
          plans={"notes": plan("lora", "streamed", 8),
                 "big": plan("none", "none", 0, 1_200_000_000),
                 "p": plan("prompt", "prompt", 0)}),
     "x86_64, 4 cores, 900 MB (--memory), 100 examples; "
     "notes: lora rank 8 streamed, big: none, 1.2 GB are missing, p: prompt", ""),
    (info(plans={name: plan("infer", "infer", 0) for name in "abcdef"}),
     "x86_64, 4 cores, 900 MB (--memory); "
     "a: infer, b: infer, c: infer, d: infer and 2 more", ""),
    (telemetry(), "idle, 28 MB, up 0 B, down 0 B", "dim"),
    (telemetry(task=TaskProgress(task=TASK, stage="train", step=3, steps=10, loss=2.39116),
               worker_rss_bytes=384_000_000, temperature_c=51.25, throttled=True,
               battery_percent=80.0, memory_full_avg10=1.5, bytes_up=84_112, bytes_down=1_200_000),
     "train 3/10 of notes.1.ward, loss 2.3912, 412 MB, 51.2 °C, throttled, battery 80 %, "
     "memory pressure 1.5 %, up 84 kB, down 1 MB", "dim"),
    (telemetry(task=TaskProgress(task=TASK, stage="paused"), paused="it is at 91 °C"),
     "paused of notes.1.ward, paused: it is at 91 °C, 28 MB, up 0 B, down 0 B", "yellow"),
    (DeviceEvent(type="oom", session=S, ts=1e9, detail="the worker was killed", task=TASK,
                 peak=PEAK),
     "event oom: the worker was killed in notes.1.ward; took 512 MB, predicted were 400 MB", "red"),
    (DeviceEvent(type="battery", session=S, ts=1e9, detail="7 % left"),
     "event battery: 7 % left", "yellow"),
    (Hello(**REQUEST, agent_version="0.1.0", wire_version=1), "hello: agent 0.1.0, wire 1", ""),
    (Take(**REQUEST, task=TASK, accept=True), "takes notes.1.ward", "cyan"),
    (Take(**REQUEST, task=TASK, accept=False, reason="no memory"),
     "declines notes.1.ward: no memory", "yellow"),
    (Evaluated(**REQUEST, task=TASK, job="notes", round=1, evaluations=LOSSES),
     "evaluated for notes.1.ward: base 2.3012, adapter 2.2000", ""),
    (BlobInit(**REQUEST, task=TASK, sha256=BLOB, size_bytes=84_112),
     "wants to send 84 kB for notes.1.ward (blob 6f1c2a9e)", ""),
    (BlobFin(**REQUEST, task=TASK, sha256=BLOB),
     "asks what has come of blob 6f1c2a9e for notes.1.ward", ""),
    (BlobInit(**REQUEST, task=TASK, sha256=BLOB, size_bytes=84_112, follows=True),
     "sends 84 kB for notes.1.ward (blob 6f1c2a9e)", ""),
    (Credit(**REPLY, sha256=BLOB, missing=[], window=8, wrong=True),
     "some chunks of blob 6f1c2a9e are wrong", "yellow"),
    (BlobGet(**REQUEST, sha256=BLOB), "asks for blob 6f1c2a9e, its first chunks", ""),
    (BlobGet(**REQUEST, sha256=BLOB, missing=[(0, 3), (7, 1)]),
     "asks for blob 6f1c2a9e, 4 chunks", ""),
    (result(sha256=BLOB, train=TRAIN, rung="streamed", peak_bytes=412_000_000, upload_bytes=84_112),
     "done with notes.1.ward: loss 2.4000 to 2.3100 in 10 steps, update of 84 kB (blob 6f1c2a9e), "
     "peak 412 MB on streamed", "green"),
    (result(task="notes.4.ward", evaluations=LOSSES),
     "done with notes.4.ward: base 2.3012, adapter 2.2000", "green"),
    (result(status="failed", reason="MemoryError"), "failed notes.1.ward: MemoryError", "red"),
    (Welcome(**REPLY, epoch="e", hub_ts=1e9), "welcome, session 2df7c5964385", ""),
    (Refused(**REPLY, reason="too late"), "refused: too late", "red"),
    (Refused(**REPLY, reason="the disk is full.", final=False),
     "refused: the disk is full. It may ask again.", "red"),
    (Accepted(**REPLY), "accepted", "green"),
    (Credit(**REPLY, sha256=BLOB, missing=[(2, 1)], window=8),
     "credit: lacks 1 chunk of blob 6f1c2a9e, 8 may be under way", ""),
    (Credit(**REPLY, sha256=BLOB, missing=[], window=8),
     "credit: nothing of blob 6f1c2a9e is missing", ""),
    (BlobInfo(**REPLY, sha256=BLOB, size_bytes=84_112), "blob 6f1c2a9e of 84 kB follows", ""),
    (offer(reason="the fastest of three"),
     "offers notes.1.ward: train as lora rank 8 streamed, 10 steps of 4 × 256 tokens, "
     "within 600 s, codec int8; the fastest of three", "cyan"),
    (offer(task="notes.4.ward", kind="evaluate", role="infer", rung="infer", rank=0, work=None),
     "offers notes.4.ward: evaluate as infer, within 600 s", "cyan"),
    (Cancel(session=S, task=TASK, reason="the job was cancelled"),
     "cancels notes.1.ward: the job was cancelled", "yellow"),
    (Report(session=S), "asks who is there", ""),
]  # fmt: skip


@pytest.mark.parametrize(("message", "text", "style"), SAID, ids=lambda v: type(v).__name__)
def test_a_message_is_said_in_words(message: Message, text: str, style: str) -> None:
    assert say(message) == (text, style)


def test_a_type_without_words_of_its_own_is_told_field_by_field() -> None:
    class Later(Message, frozen=True, kw_only=True):
        ROUTE = "nothing"

        task: str
        count: int
        part: DataSummary

    part = DataSummary(examples=1, held_out=0, skipped=0)
    later = Later(task="a\nb", count=3, part=part)
    told = "{'examples': 1, 'held_out': 0, 'skipped': 0}"
    assert say(later).text == f"Later: task=a\ufffdb, count=3, part={told[:37]}..."


@every
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_nothing_that_a_message_holds_makes_words_fail_or_break_the_line(
    kind: type[Message], data: st.DataObject
) -> None:
    words = say(data.draw(strategy(struct_of(kind))))
    assert all(char.isprintable() for char in words.text)


def test_numbers_beyond_all_measure_do_no_harm() -> None:
    huge = 10**4000
    for message, _, _ in SAID:
        changed = {
            field.name: huge
            for field in msgspec.structs.fields(message)
            if isinstance(getattr(message, field.name), int)
            and not isinstance(getattr(message, field.name), bool)
        }
        assert say(msgspec.structs.replace(message, **changed)).text
