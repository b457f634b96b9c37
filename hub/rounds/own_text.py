"""What a job file's part ``hub`` means for one round of the job."""

from typing import TYPE_CHECKING

import msgspec

from hub.jobs import JobFile
from hub.rounds.asked import local_work
from hub.rounds.own_round import OwnRound, OwnWork
from wire.messages.plan import Role

if TYPE_CHECKING:
    from hub.rounds.job_run import JobRun

LOG_FILE = "own-text.log"


def own_round(run: "JobRun", round_: int) -> OwnRound | None:
    """Return what the hub does with its own text in a round; None: it has none."""
    if not run.spec.texts:
        return None
    part, local = run.file.hub, run.file.local
    role, rung = _role(run.file)
    work = local_work(
        run,
        role,
        rung,
        round_,
        steps=part.steps or local.steps,
        batch=part.batch or local.batch,
        seq_len=part.seq_len or local.seq_len,
    )
    known = any("validation_base_loss" in record.record for record in run.state.records)
    return OwnRound(
        OwnWork(
            job=run.name,
            base_folder=run.base.folder,
            public=run.spec.texts.get("public_data"),
            validation=run.spec.texts.get("validation"),
            variants=("adapter",) if known else ("adapter", "base"),
            role=role,
            rung=rung,
            local=msgspec.structs.replace(
                work, lr=part.lr or work.lr, accumulate=min(work.accumulate, work.batch)
            ),
            max_s=part.max_s,
            log_file=run.desk.folder / LOG_FILE,
        ),
        run.desk.adapters,
    )


def _role(file: JobFile) -> tuple[Role, str]:
    """Return as which role the hub trains, and on which rung."""
    if file.trains_weights:  # which are in memory in any case
        return "full", "resident" if file.hub.rung == "streamed" else file.hub.rung
    return ("lora", file.hub.rung) if "lora" in file.method else ("prompt", "prompt")
