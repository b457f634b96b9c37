"""What the worker is told of a task, and what the hub is told of its end."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_agent.gather import Gathered
from edge_agent.jobs import residuals_of
from edge_agent.planning.counts import rows_at_a_time
from edge_agent.protocol import Feedback, Work
from edge_agent.task_run import TaskRun
from wire.messages import BlobRef, LocalWork, Result, RungPlan, TrainMetrics
from wire.messages.requests import BASE_DIGITS

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

#: In the state folder: of the one task that runs, or ran when the agent was ended.
STATE_FILE = "training.safetensors"


def work_of(agent: "Supervisor", task: TaskRun, base: Path, adapter: Gathered) -> Work:
    """Return the command for a task, on the line that it is on now.

    Args:
        agent: whose task it is; its folder for updates is emptied.
        task: what is to be done.
        base: the base model's folder.
        adapter: where its parts are.
    """
    out = agent.folder / "work"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    offer, line = task.offer, task.line
    local = _local(offer.work, line)
    return Work(
        task=offer.task,
        role=line.role,
        rung=line.rung,
        rank=line.rank,
        base_folder=str(base),
        manifest=str(agent.blobs.path(offer.adapter.sha256)),
        parts=adapter.files,
        following=adapter.following,
        components=adapter.components,
        blobs=str(agent.blobs.folder),
        data=agent.settings.data,
        cleaning=agent.settings.cleaning,
        codec=offer.codec,
        out=str(out),
        batch=rows_at_a_time(local) if local else line.batch,
        seq_len=line.seq_len,
        work=local,
        variants=[] if task.evaluations else offer.variants,
        checkpoint=str(agent.folder / STATE_FILE),
        feedback=Feedback(
            folder=str(residuals_of(agent.folder, offer.job)), accepted=offer.accepted
        ),
        control=_file(agent, offer.work.control) if offer.work else None,
        own_control=_file(agent, offer.work.own_control) if offer.work else None,
    )


def _file(agent: "Supervisor", reference: BlobRef | None) -> str | None:
    return str(agent.blobs.path(reference.sha256)) if reference is not None else None


def _local(work: LocalWork | None, line: RungPlan) -> LocalWork | None:
    if work is None:
        return None
    return msgspec.structs.replace(work, batch=line.batch, seq_len=line.seq_len)


def result_of(agent: "Supervisor", task: TaskRun, request: str, measured_bytes: int) -> Result:
    """Return what the hub is told of a task's end.

    Args:
        agent: whose task it was.
        task: with its update accepted, or with its failure.
        request: the message's id.
        measured_bytes: the task's peak.
    """
    return Result(
        id=request,
        session=agent.session,
        task=task.offer.task,
        job=task.offer.job,
        round=task.offer.round,
        status="done" if task.failure is None else "failed",
        sha256=task.update,
        reason=task.failure,
        train=_short(task.finished.train) if task.finished and task.finished.train else None,
        # Those with which a training began were told then.
        evaluations=task.evaluations if task.offer.kind == "evaluate" else [],
        rung=task.line.rung,
        peak_bytes=measured_bytes,
        predicted_peak_bytes=task.line.predicted_peak_bytes,
        bytes_up=agent.link.bytes_up,
        bytes_down=agent.link.bytes_down + agent.worker.fetched_bytes,
        download_s=round(task.adapter_wait_s, 3),
        upload_s=round(task.upload_s, 3),
        upload_bytes=task.update_bytes,
        base=task.base[:BASE_DIGITS] if task.update else "",
    )


def _short(train: TrainMetrics) -> TrainMetrics:
    """Return metrics without the digits that nobody reads."""
    return msgspec.structs.replace(
        train,
        loss_first=round(train.loss_first, 6),
        loss_last=round(train.loss_last, 6),
        seconds_per_step=round(train.seconds_per_step, 4),
        load_s=round(train.load_s, 3),
    )
