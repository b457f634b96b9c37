"""What a device tells: its state, what it is, how it fares."""

from typing import Annotated, Literal

import msgspec

from wire.messages.contract import Message
from wire.messages.plan import Count, RungPlan, Sentence, SizeBytes, Word

State = Literal["init", "ready", "sleeping", "alert", "disconnected", "lost"]


class DeviceState(Message, frozen=True, kw_only=True):
    """Homie's life cycle (https://homieiot.github.io); retained; the last will is ``lost``."""

    ROUTE = "device_state"
    RETAIN = True
    WILL = {"state": "lost"}

    state: State
    session: str  # new for each start of the agent
    ts: float
    reason: str | None = None


class DataSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a device's private text. Never the text."""

    examples: int
    held_out: int
    skipped: int
    duplicates: Count = 0  # left out: the same text was there before
    near_duplicates: Count = 0  # left out: nearly the same text was there before
    too_short: Count = 0  # left out
    garbled: Count = 0  # left out: of a wrong encoding
    redacted: Count = 0  # addresses and numbers that were replaced


class DeviceInfo(Message, frozen=True, kw_only=True):
    """What a device has, and the rung it takes in each job it knows."""

    ROUTE = "device_info"
    RETAIN = True

    session: str
    ts: float
    agent_version: Word
    wire_version: int
    machine: Word  # x86_64, aarch64, ...
    cores: float
    memory_limit_bytes: SizeBytes
    memory_reason: Sentence  # which limit is the least one
    memory_enforcement: Word = ""  # what keeps the worker within it: cgroup v1, cgroup v2, watchdog
    codecs: Annotated[list[Word], msgspec.Meta(max_length=64)]
    up_limit_bits_per_s: SizeBytes | None = None  # that the device's user set; None: no limit
    down_limit_bits_per_s: SizeBytes | None = None
    data_cap_bytes: SizeBytes | None = None  # a day, up and down together
    data: DataSummary | None = None
    #: What is installed to compute with, the one in use first: torch, llama.cpp, onnxruntime.
    runtimes: Annotated[list[Word], msgspec.Meta(max_length=8)] = []
    plans: Annotated[dict[str, RungPlan], msgspec.Meta(max_length=64)] = {}  # by job


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the running task is."""

    task: str
    stage: str  # fetch, evaluate, train, paused, upload
    rung: Word = ""  # on which it is done, which may be lower than was offered
    step: int = 0
    steps: int = 0
    loss: float | None = None


class TaskPeak(msgspec.Struct, frozen=True, kw_only=True):
    """What a task was predicted to take, and what it took: supervisor and worker together."""

    task: str
    rung: Word
    predicted_peak_bytes: SizeBytes
    measured_peak_bytes: SizeBytes  # of a task that was killed: what was last seen
    limit_bytes: SizeBytes
    error: float  # predicted over measured, less 1


class Telemetry(Message, frozen=True, kw_only=True, omit_defaults=True):
    """A snapshot. What can't be read is null, or left out."""

    ROUTE = "telemetry"
    QOS = 0

    session: str
    ts: float
    supervisor_rss_bytes: int
    worker_rss_bytes: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    task: TaskProgress | None = None
    temperature_c: float | None = None  # of the sensor that is nearest to its limit
    throttled: bool | None = None
    battery_percent: float | None = None
    on_mains: bool | None = None
    memory_some_avg10: float | None = None  # percent of time in which a process waited for memory
    memory_full_avg10: float | None = None  # in which all did
    paused: Sentence | None = None  # why no task goes on
    peaks: Annotated[list[TaskPeak], msgspec.Meta(max_length=16)] = []  # the newest last
    certificate_days_left: float | None = None  # negative: it has expired; null: there is none


class DeviceEvent(Message, frozen=True, kw_only=True):
    """Something worth keeping: out of memory, a task that had to be paused, broken data."""

    ROUTE = "event"

    type: str
    session: str
    ts: float
    detail: str
    job: str | None = None
    round: int | None = None
    task: str | None = None
    peak: TaskPeak | None = None  # of what ran out of memory
