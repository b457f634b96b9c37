"""Typed messages. A new type goes into a file of this folder; `catalogue` finds it."""

import importlib
import pkgutil
from functools import cache
from typing import Any

from wire.messages.commands import (
    Adversarial,
    BlobRef,
    Cancel,
    ForwardOnly,
    LocalWork,
    Offer,
    Report,
)
from wire.messages.contract import MAX_MESSAGE_BYTES, MAX_RETAINED_BYTES, Message, decode, encode
from wire.messages.device import (
    DataSummary,
    DeviceEvent,
    DeviceInfo,
    DeviceState,
    TaskPeak,
    TaskProgress,
    Telemetry,
)
from wire.messages.hub import AdapterRef, BaseRef, HubState, RoundAnnounce, RoundPhase
from wire.messages.plan import JobKnobs, ModelShape, RungPlan
from wire.messages.replies import Accepted, BlobInfo, Credit, Refused, Reply, Welcome
from wire.messages.requests import (
    BlobFin,
    BlobGet,
    BlobInit,
    Evaluated,
    Evaluation,
    Hello,
    Ranges,
    Result,
    Take,
    TrainMetrics,
)
from wire.topics import Route

__all__ = [
    "MAX_MESSAGE_BYTES", "MAX_RETAINED_BYTES", "Accepted", "AdapterRef", "Adversarial", "BaseRef",
    "BlobFin", "BlobGet", "BlobInfo", "BlobInit", "BlobRef", "Cancel", "Credit", "DataSummary",
    "DeviceEvent",
    "DeviceInfo", "DeviceState", "Evaluated", "Evaluation", "ForwardOnly", "Hello", "HubState",
    "JobKnobs",
    "LocalWork", "Message", "ModelShape", "Offer", "Ranges", "Refused", "Reply", "Report",
    "Result", "RoundAnnounce", "RoundPhase", "RungPlan", "Take", "TaskPeak", "TaskProgress",
    "Telemetry", "TrainMetrics", "Welcome", "catalogue", "decode", "encode", "parse",
]  # fmt: skip


@cache
def catalogue() -> tuple[type[Message], ...]:
    """Return every message type of this folder, by name."""
    found: dict[str, type[Message]] = {}
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Message) and value is not Message:
                found[value.__name__] = value
    return tuple(found[name] for name in sorted(found))


@cache
def _kinds() -> dict[tuple[str, str | None], Any]:
    kinds: dict[tuple[str, str | None], Any] = {}
    for kind in catalogue():
        key = (kind.ROUTE, kind.NAME)
        kinds[key] = kinds[key] | kind if key in kinds else kind
    return kinds


def parse(route: Route, payload: bytes) -> Message | None:
    """Return the typed message of a route, or None if this version knows no such message.

    Raises:
        MalformedError: the payload is not what the topic promises.
    """
    name = route.name if route.kind in ("request", "command") else None
    kind = _kinds().get((route.kind, name))
    if kind is None:
        return None
    message: Message = decode(payload, kind)
    return message
