"""What a device tells: its state, what it is, how it fares."""

from typing import Annotated, Literal

import msgspec

from wire.messages.contract import Message
from wire.messages.plan import RungPlan, Sentence, SizeBytes, Word

State = Literal["init", "ready", "sleeping", "alert", "disconnected", "lost"]


class DeviceState(Message, frozen=True, kw_only=True):
    """Homie's life cycle (https://homieiot.github.io); retained; the last will is ``lost``."""

    ROUTE = "device_state"
    RETAIN = True

    state: State
    session: str  # new for each start of the agent
    ts: float
    reason: str | None = None


class DataSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a device's private text. Never the text."""

    examples: int
    held_out: int
    skipped: int


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
    codecs: Annotated[list[Word], msgspec.Meta(max_length=64)]
    data: DataSummary | None = None
    plans: Annotated[dict[str, RungPlan], msgspec.Meta(max_length=64)] = {}  # by job


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the running task is."""

    task: str
    stage: str  # fetch, evaluate, train, upload
    step: int = 0
    steps: int = 0
    loss: float | None = None


class Telemetry(Message, frozen=True, kw_only=True):
    """A snapshot. What can't be read is null."""

    ROUTE = "telemetry"
    QOS = 0

    session: str
    ts: float
    supervisor_rss_bytes: int
    worker_rss_bytes: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    task: TaskProgress | None = None


class DeviceEvent(Message, frozen=True, kw_only=True):
    """Something worth keeping: out of memory, broken data lines, a refused offer."""

    ROUTE = "event"

    type: str
    session: str
    ts: float
    detail: str
    job: str | None = None
    round: int | None = None
    task: str | None = None
