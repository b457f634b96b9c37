"""Each message in words: what a person wants to know of it, on one line."""

from functools import singledispatch
from typing import NamedTuple

import msgspec

from hub.watching.text import blob_word, bytes_word, clock_word, loss_word, one_line
from wire.messages import (
    Accepted,
    BlobFin,
    BlobGet,
    BlobInfo,
    BlobInit,
    Cancel,
    Credit,
    DeviceEvent,
    DeviceInfo,
    DeviceState,
    Evaluated,
    Evaluation,
    Hello,
    HubState,
    Message,
    Offer,
    Refused,
    Report,
    Result,
    RoundAnnounce,
    RoundPhase,
    RungPlan,
    Take,
    Telemetry,
    Welcome,
)

_MAX_PARTS = 4  # jobs or losses on one line
_STATE_STYLE = {"ready": "green", "sleeping": "yellow", "alert": "red", "lost": "red"}
_PHASE_STYLE = {"done": "green", "published": "green", "failed": "red", "cancelled": "red"}


class Words(NamedTuple):
    """A line's text, and the Rich style in which a terminal shows it."""

    text: str
    style: str = ""


@singledispatch
def say(message: Message) -> Words:
    """Return a message in words; a type without words of its own is told field by field."""
    fields = msgspec.to_builtins(message)
    told = ", ".join(f"{name}={one_line(str(fields[name]), 40)}" for name in fields)
    return Words(f"{type(message).__name__}: {told}")


def _reason(text: str | None, before: str = ": ") -> str:
    return f"{before}{one_line(text)}" if text else ""


def _parts(parts: list[str]) -> str:
    more = len(parts) - _MAX_PARTS
    return ", ".join(parts[:_MAX_PARTS]) + (f" and {more} more" if more > 0 else "")


def _losses(evaluations: list[Evaluation]) -> str:
    return _parts([f"{one_line(one.variant, 40)} {loss_word(one.loss)}" for one in evaluations])


# From the hub to all


@say.register
def _(message: HubState) -> Words:
    if not message.online:
        return Words("offline", "red")
    return Words("online" + _reason(message.http, ", models at "), "green")


@say.register
def _(message: RoundAnnounce) -> Words:
    text = f"round {message.round} of {message.rounds}: {message.phase}"
    if message.adapter is not None:
        text += f", adapter {one_line(message.adapter.sha256[:8])}"
    return _until(text, message)


@say.register
def _(message: RoundPhase) -> Words:
    return _until(f"round {message.round} of {message.rounds}: {message.phase}", message)


def _until(text: str, message: RoundAnnounce | RoundPhase) -> Words:
    if message.deadline_ts is not None:
        text += f", until {clock_word(message.deadline_ts)}"
    return Words(text + _reason(message.reason), _PHASE_STYLE.get(message.phase, "bold"))


# From a device to all


@say.register
def _(message: DeviceState) -> Words:
    return Words(message.state + _reason(message.reason), _STATE_STYLE.get(message.state, "dim"))


@say.register
def _(message: DeviceInfo) -> Words:
    text = f"{one_line(message.machine)}, {message.cores:g} cores, "
    text += f"{bytes_word(message.memory_limit_bytes)} ({one_line(message.memory_reason)})"
    if message.data is not None:
        text += f", {message.data.examples} examples"
    plans = [f"{one_line(job, 63)}: {_plan(plan)}" for job, plan in message.plans.items()]
    return Words(text + _reason(_parts(plans), "; "))


def _plan(plan: RungPlan) -> str:
    if plan.role == "none":
        return f"none, {bytes_word(plan.missing_bytes)} are missing"
    return _role(plan.role, plan.rank, plan.rung)


def _role(role: str, rank: int, rung: str) -> str:
    words = f"{role} rank {rank}" if rank else role
    return words if rung == role else f"{words} {one_line(rung)}"


@say.register
def _(message: Telemetry) -> Words:
    parts = []
    task = message.task
    if task is None:
        parts.append("idle")
    else:
        steps = f" {task.step}/{task.steps}" if task.steps else ""
        parts.append(f"{one_line(task.stage, 40)}{steps} of {one_line(task.task)}")
        if task.loss is not None:
            parts.append(f"loss {loss_word(task.loss)}")
    if message.paused:
        parts.append(f"paused: {one_line(message.paused)}")
    parts.append(bytes_word(message.supervisor_rss_bytes + (message.worker_rss_bytes or 0)))
    if message.temperature_c is not None:
        parts.append(f"{message.temperature_c:.3g} °C")
    if message.throttled:
        parts.append("throttled")
    if message.battery_percent is not None:
        parts.append(f"battery {message.battery_percent:.3g} %")
    if message.memory_full_avg10:
        parts.append(f"memory pressure {message.memory_full_avg10:.3g} %")
    parts.append(f"up {bytes_word(message.bytes_up)}, down {bytes_word(message.bytes_down)}")
    return Words(", ".join(parts), "yellow" if message.paused else "dim")


@say.register
def _(message: DeviceEvent) -> Words:
    text = f"event {one_line(message.type, 40)}{_reason(message.detail)}"
    text += _reason(message.task, " in ")
    if message.peak is not None:
        took = bytes_word(message.peak.measured_peak_bytes)
        text += f"; took {took}, predicted were {bytes_word(message.peak.predicted_peak_bytes)}"
    return Words(text, "red" if message.type == "oom" else "yellow")


# Requests


@say.register
def _(message: Hello) -> Words:
    return Words(f"hello: agent {one_line(message.agent_version)}, wire {message.wire_version}")


@say.register
def _(message: Take) -> Words:
    if message.accept:
        return Words(f"takes {one_line(message.task)}", "cyan")
    return Words(f"declines {one_line(message.task)}{_reason(message.reason)}", "yellow")


@say.register
def _(message: Evaluated) -> Words:
    return Words(f"evaluated for {one_line(message.task)}{_reason(_losses(message.evaluations))}")


@say.register
def _(message: BlobInit) -> Words:
    what = f"{bytes_word(message.size_bytes)} for {one_line(message.task)}"
    verb = "sends" if message.follows else "wants to send"
    return Words(f"{verb} {what} ({blob_word(message.sha256)})")


@say.register
def _(message: BlobFin) -> Words:
    what = f"{blob_word(message.sha256)} for {one_line(message.task)}"
    return Words(f"asks what has come of {what}")


@say.register
def _(message: BlobGet) -> Words:
    if message.missing is None:
        return Words(f"asks for {blob_word(message.sha256)}, its first chunks")
    return Words(f"asks for {blob_word(message.sha256)}, {_chunks(message.missing)}")


def _chunks(ranges: list[tuple[int, int]]) -> str:
    count = sum(length for _, length in ranges)
    return "1 chunk" if count == 1 else f"{count} chunks"


@say.register
def _(message: Result) -> Words:
    if message.status == "failed":
        return Words(f"failed {one_line(message.task)}{_reason(message.reason)}", "red")
    parts = []
    if message.train is not None:
        first, last = loss_word(message.train.loss_first), loss_word(message.train.loss_last)
        parts.append(f"loss {first} to {last} in {message.train.steps} steps")
    if message.evaluations:
        parts.append(_losses(message.evaluations))
    if message.sha256 is not None:
        size = f" of {bytes_word(message.upload_bytes)}" if message.upload_bytes else ""
        parts.append(f"update{size} ({blob_word(message.sha256)})")
    if message.peak_bytes:
        parts.append(f"peak {bytes_word(message.peak_bytes)}" + _reason(message.rung, " on "))
    return Words(f"done with {one_line(message.task)}{_reason(', '.join(parts))}", "green")


# Replies


@say.register
def _(message: Welcome) -> Words:
    return Words(f"welcome, session {one_line(message.session)}")


@say.register
def _(message: Refused) -> Words:
    again = "" if message.final else " It may ask again."
    return Words(f"refused{_reason(message.reason)}{again}", "red")


@say.register
def _(_message: Accepted) -> Words:
    return Words("accepted", "green")


@say.register
def _(message: Credit) -> Words:
    if message.wrong:
        return Words(f"some chunks of {blob_word(message.sha256)} are wrong", "yellow")
    if not message.missing:
        return Words(f"credit: nothing of {blob_word(message.sha256)} is missing")
    lacks = f"{_chunks(message.missing)} of {blob_word(message.sha256)}"
    return Words(f"credit: lacks {lacks}, {message.window} may be under way")


@say.register
def _(message: BlobInfo) -> Words:
    return Words(f"{blob_word(message.sha256)} of {bytes_word(message.size_bytes)} follows")


# Commands


@say.register
def _(message: Offer) -> Words:
    parts = [f"{message.kind} as {_role(message.role, message.rank, message.rung)}"]
    if (work := message.work) is not None:
        parts.append(f"{work.steps} steps of {work.batch} × {work.seq_len} tokens")
    parts.append(f"within {message.deadline_s:.6g} s")
    if message.kind == "train":
        parts.append(f"codec {one_line(message.codec, 63)}")
    text = f"offers {one_line(message.task)}: {', '.join(parts)}"
    return Words(text + _reason(message.reason, "; "), "cyan")


@say.register
def _(message: Cancel) -> Words:
    return Words(f"cancels {one_line(message.task)}{_reason(message.reason)}", "yellow")


@say.register
def _(_message: Report) -> Words:
    return Words("asks who is there")
