"""What a demo run ends with: the fields of ``summary.json``, in order."""

from collections.abc import Mapping
from typing import Any

import msgspec


class DeviceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One device: what it was, what it cost, what it gained. What was not measured is None."""

    id: str
    role: str
    rung: str = ""
    rank: int = 0
    batch: int = 0
    seq_len: int = 0
    memory_limit_bytes: int
    peak_bytes: int | None = None
    predicted_peak_bytes: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    loss_before: float | None = None
    loss_after: float | None = None
    steps: int = 0
    reason: str = ""
    packages: list[str] = []
    passages: dict[str, int] = {}  # of private text, by package


class MemberSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One device in one round, with the scheduler's reason."""

    device: str
    role: str = ""
    rank: int = 0
    steps: int = 0
    codec: str = ""
    state: str = ""  # delivered, failed, missed, ...
    reason: str = ""


class RoundSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One round."""

    round: int
    phase: str = ""
    seconds: float = 0.0
    accepted: int = 0
    heldout_loss: float | None = None
    worst_tenth: float | None = None  # of devices, by their loss
    spread: float | None = None  # standard deviation over devices
    members: list[MemberSummary] = []


class HubSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub itself used."""

    peak_bytes: int | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. Losses are means in nats per token, on text that no device trained on."""

    base_loss: float | None = None
    heldout_loss: list[float] = []
    loss_without_prompt: float | None = None
    rounds: int = 0
    seed: int = 0
    seconds: float = 0.0
    broker: str = ""
    hub: HubSummary = HubSummary()
    total_peak_bytes: int | None = None
    devices: list[DeviceSummary] = []
    rounds_detail: list[RoundSummary] = []
    adapter: str = ""
    prompt: str = ""
    command: str = ""
    job: dict[str, Any] = {}


def parse(summary: Mapping[str, Any]) -> Summary:
    """Return the typed summary of a run; keys that are not known here are left out.

    Raises:
        msgspec.ValidationError: a field is missing or has the wrong type; it is named.
    """
    return msgspec.convert(dict(summary), Summary)


def fall(before: float | None, after: float | None) -> float | None:
    """Return by which share a loss changed; -0.1 is ten percent less. None if one is unknown."""
    if before is None or after is None or before == 0.0:
        return None
    return after / before - 1.0
