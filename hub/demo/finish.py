"""What a demo run leaves behind: summary, events, adapter, report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from hub.api.control import HubStatus, JobDetail, Round
from hub.cli.client import HubClient
from hub.cli.unpack import unpack
from hub.demo.follow import Follower, rung_words
from hub.demo.report import write_report
from hub.demo.summary import (
    DeviceSummary,
    HubSummary,
    MemberSummary,
    RoundSummary,
    Summary,
)
from hub.demo.texts import DeviceText
from hub.errors import HubError


def collect_summary(
    follower: Follower,
    *,
    job: dict[str, Any],
    texts: Mapping[str, DeviceText],
    hub: HubStatus,
    broker: str,
    total_peak_bytes: int | None,
    seconds: float,
    command: str,
) -> dict[str, Any]:
    """Return the content of ``summary.json``.

    Raises:
        HubError: the job was never seen.
    """
    detail = follower.detail
    if detail is None:
        raise HubError("the hub never told about the job.")
    summary = Summary(
        base_loss=detail.summary.base_loss,
        heldout_loss=[
            r.heldout_loss
            for r in detail.rounds
            if r.heldout_loss is not None and r.phase != "rolled_back"
        ],
        loss_without_prompt=detail.without_prompt_loss,
        rounds=detail.summary.rounds,
        seed=detail.seed,
        seconds=round(seconds, 1),
        broker=broker,
        hub=HubSummary(peak_bytes=hub.peak_bytes),
        total_peak_bytes=total_peak_bytes,
        devices=[_device(follower, detail, device, text) for device, text in texts.items()],
        rounds_detail=[_round(one) for one in detail.rounds],
        adapter="adapter",
        prompt="adapter/prompt",
        command=command,
        job=job,
    )
    document: dict[str, Any] = msgspec.to_builtins(summary)
    return {"phase": detail.summary.phase, "reason": detail.summary.reason, **document}


def save_results(folder: Path, client: HubClient, job: str, summary: dict[str, Any]) -> None:
    """Write ``summary.json``, ``events.jsonl``, ``adapter/`` and ``report.html``."""
    text = msgspec.json.format(msgspec.json.encode(summary), indent=2)
    (folder / "summary.json").write_bytes(text)
    events = client.events(job)
    with (folder / "events.jsonl").open("wb") as file:
        for event in events:
            file.write(msgspec.json.encode(event) + b"\n")
    if summary["phase"] == "done":
        unpack(lambda target: client.adapter(job, target), folder / "adapter")
    write_report(folder, summary, msgspec.to_builtins(events))


def _device(follower: Follower, detail: JobDetail, device: str, text: DeviceText) -> DeviceSummary:
    known = follower.devices.get(device)
    plan = follower.plans.get(device)
    return DeviceSummary(
        id=device,
        role=plan.role if plan else "none",
        rung=rung_words(plan) if plan else "",
        rank=plan.rank if plan else 0,
        batch=plan.batch if plan else 0,
        seq_len=plan.seq_len if plan else 0,
        memory_limit_bytes=known.info.memory_limit_bytes if known and known.info else 0,
        peak_bytes=known.usage.peak_bytes if known else None,
        predicted_peak_bytes=plan.predicted_peak_bytes if plan else None,
        bytes_up=known.usage.bytes_up if known else 0,
        bytes_down=known.usage.bytes_down if known else 0,
        loss_before=detail.loss_before.get(device),
        loss_after=detail.loss_after.get(device),
        steps=sum(
            member.steps
            for round_ in detail.rounds
            for member in round_.members
            if member.device == device and member.state in ("delivered", "late")
        ),
        reason=plan.reason if plan else "never heard of",
        packages=text.packages,
        passages=text.passages,
    )


def _round(one: Round) -> RoundSummary:
    return RoundSummary(
        round=one.round,
        phase=one.phase,
        seconds=round((one.closed_ts or one.opened_ts) - one.opened_ts, 2),
        accepted=sum(m.state == "delivered" and m.steps > 0 for m in one.members),
        heldout_loss=one.heldout_loss,
        worst_tenth=one.worst_tenth,
        spread=one.spread,
        members=[
            MemberSummary(
                device=member.device,
                role=member.role,
                rank=member.rank,
                steps=member.steps,
                codec=member.codec,
                state=member.state,
                reason=member.reason,
            )
            for member in one.members
        ],
    )
