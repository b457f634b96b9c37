"""What the scheduler reads and what it decides: plain values, no I/O."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from wire.messages.plan import Role, RungPlan

#: The rung of devices that train cores without backprop, as role ``infer``.
FORWARD_ONLY = "forward-only"

Kind = Literal["train", "evaluate"]
Variant = Literal["base", "adapter", "without_prompt"]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One device's part in a round, and why it is so."""

    device: str
    kind: Kind
    role: Role
    rung: str
    rank: int  # of its LoRA factors, or the side of its cores; 0 for other roles
    steps: int  # 0 for a device that only evaluates
    batch: int
    seq_len: int  # tokens
    codec: str
    variants: tuple[Variant, ...] = ()  # what it evaluates before it trains
    reason: str = ""


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """What of a job matters to its schedule.

    ``codecs`` are the hub's own, with their bits per parameter; ``biased`` are those of them that
    only a job may ask for. The sizes say how long the adapter takes to fetch and an update to send.
    """

    job: str
    rounds: int
    cohort_min: int
    cohort_max: int
    steps: int
    rank: int
    codecs: Mapping[str, float]
    biased: frozenset[str] = frozenset()
    codec: str = "auto"
    deadline_s: float | None = None  # None: from the devices' own times
    seed: int | None = None
    min_updates: int | None = None  # None: cohort_min
    adapter_bytes: int = 0  # of the broadcast
    lora_parameters_per_rank: int = 0  # the sum of in + out over the target modules, as trained
    matrices: int = 0  # target modules, each with a core of rank × rank where cores are trained
    cores_alone: bool = False  # whether all devices train cores in this round
    prompt_parameters: int = 0  # virtual tokens times hidden size
    full_parameters: int = 0  # all weights of the base
    forward_steps: int = 0  # of a device that trains without backprop
    forward_in_steps: int = 0  # as many steps with backprop take as long


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """What of a device matters to one job's schedule.

    ``plan`` is None while the device hasn't said which rung it takes in this job.
    """

    id: str
    plan: RungPlan | None
    codecs: tuple[str, ...]
    ready: bool = True
    not_ready_reason: str = "not connected"
    memory_limit_bytes: int = 0
    up_limit_bytes_per_s: float | None = None  # that its user set; None: no limit
    down_limit_bytes_per_s: float | None = None


class DeviceTiming(msgspec.Struct, frozen=True, kw_only=True):
    """How a device did in its last rounds of the job: medians; None: not measured.

    ``misses`` counts the rounds since its last update at whose close it still owed one.
    """

    seconds_per_step: float | None = None
    load_s: float = 0.0  # before the first step: model, adapter, data, evaluation
    up_bytes_per_s: float | None = None
    down_bytes_per_s: float | None = None
    served: int = 0  # rounds of which it was a member
    misses: int = 0


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A round's plan; with a ``waiting_reason`` there is none yet, and no members."""

    members: tuple[Member, ...] = ()
    deadline_s: float = 0.0
    min_updates: int = 0
    waiting_reason: str | None = None
    left_out: dict[str, str] = {}  # device -> why it isn't a member
