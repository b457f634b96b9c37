"""What devices report of a job's tasks: checked, logged, and only then answered."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from hub.aggregation.check import check_update, reach
from hub.aggregation.contract import RefusedUpdateError
from hub.aggregation.forward_only import check_steps
from hub.rounds import events
from hub.rounds.asked import forward_reach, kind_of, local_seed, trains_of
from hub.rounds.queries import may_take, member_of, verdict
from hub.rounds.state import MemberState
from hub.scheduling.contract import FORWARD_ONLY
from wire.errors import MalformedError
from wire.forward_only import MOST_BYTES
from wire.messages import Accepted, Evaluated, Refused, Reply, Result, Take
from wire.messages.requests import BASE_DIGITS

if TYPE_CHECKING:
    from hub.rounds.job_run import JobRun

log = logging.getLogger(__name__)

Answer = Callable[[Reply], None]


class Results:
    """The desk at which one job's devices report.

    Args:
        run: the job.
    """

    def __init__(self, run: "JobRun") -> None:
        self._run = run
        self._checking: set[str] = set()

    def _member(self, device: str, task: str) -> tuple[int, MemberState, bool] | None:
        """Return the round and member that a task belongs to, and if it evaluates a candidate."""
        for record in reversed(self._run.state.records):
            for candidate in (False, True):
                if self._run.task_name(record.round, device, candidate=candidate) == task:
                    member = member_of(record, device, candidate=candidate)
                    return (record.round, member, candidate) if member is not None else None
        return None

    def allowed_bytes(self, device: str, task: str) -> int | None:
        """Return how large the update of a task may be; None: none is waited for."""
        found = self._member(device, task)
        if found is None or found[1].member.kind != "train" or self._run.over:
            return None
        member = found[1].member
        view = self._run.opening.view(0, found[0])
        if member.rung == FORWARD_ONLY:
            return MOST_BYTES
        numbers = {
            "lora": view.lora_parameters_per_rank * member.rank,
            "prompt": view.prompt_parameters,
            "full": view.full_parameters,
        }[kind_of(member.role)]
        names = 2 * len(self._run.base.targets) + 1
        # Nothing packs worse than raw; the header names each part once, in JSON.
        return numbers * 5 + names * 1024 + 4096

    def on_take(self, device: str, take: Take) -> Reply | None:
        """A device takes or declines its task; None: not a task of this job."""
        found = self._member(device, take.task)
        if found is None:
            return None
        round_, member, candidate = found
        if not take.accept:
            reason = take.reason or "no reason given"
            self._run.record(
                events.Declined(round=round_, device=device, reason=reason, candidate=candidate)
            )
            return Accepted(re=take.id, session=take.session)
        now = self._run.desk.now()
        unwanted = may_take(self._run.state, device, round_, now, candidate=candidate)
        if unwanted is not None:
            return Refused(re=take.id, session=take.session, reason=unwanted)
        if member.state == "offered":
            self._run.record(events.Taken(round=round_, device=device, candidate=candidate))
        return Accepted(re=take.id, session=take.session)

    def on_evaluated(self, device: str, message: Evaluated) -> Reply | None:
        """A device measured the adapter with which its round began, or the round's candidate."""
        found = self._member(device, message.task)
        if found is None:
            return None
        self._run.record(
            events.Evaluated(
                round=found[0],
                device=device,
                evaluations=tuple(message.evaluations),
                candidate=found[2],
            )
        )
        return Accepted(re=message.id, session=message.session)

    def on_result(self, device: str, result: Result, reply: Answer) -> bool:
        """A task has ended; ``reply`` is called once the outcome is on record.

        Returns:
            False: not a task of this job.
        """
        found = self._member(device, result.task)
        if found is None:
            return False
        round_, member, candidate = found
        accepted = Accepted(re=result.id, session=result.session)
        if result.status == "failed":
            reason = result.reason or "no reason given"
            self._run.record(
                events.TaskFailed(round=round_, device=device, reason=reason, candidate=candidate)
            )
            reply(accepted)
        elif member.member.kind == "evaluate":
            self._run.record(
                events.Evaluated(
                    round=round_,
                    device=device,
                    evaluations=tuple(result.evaluations),
                    candidate=candidate,
                )
            )
            reply(accepted)
        else:
            judged = verdict(self._run.state, device, round_, self._run.desk.now())
            if judged.counts == "repeat":
                reply(accepted)
            elif judged.counts == "refused":
                reply(Refused(re=result.id, session=result.session, reason=judged.reason))
            elif result.sha256 is None or result.train is None:
                reason = "a training task's result has no update"
                self._refuse(round_, device, result, reason, reply)
            elif not self._run.base.digest.startswith(result.base):
                reason = (
                    f"it was trained on base {result.base}; the job's is "
                    f"{self._run.base.digest[:BASE_DIGITS]}. Fetch that one"
                )
                self._refuse(round_, device, result, reason, reply)
            else:
                self._check(round_, member, device, result, reply)
        return True

    def _check(
        self, round_: int, member: MemberState, device: str, result: Result, reply: Answer
    ) -> None:
        key = f"{device}.{round_}"
        if key in self._checking:
            return  # a repetition while the first one is looked at; its answer is on its way
        try:
            path = self._run.desk.blobs.path(str(result.sha256))
        except MalformedError as error:
            self._refuse(round_, device, result, str(error), reply)
            return
        record = self._run.state.record(round_)
        if path is None or record is None:
            self._refuse(round_, device, result, "its blob never arrived; upload it first", reply)
            return
        self._checking.add(key)
        part = member.member
        lr = self._run.lr(part.role)
        manifest = self._run.desk.adapters.load(record.start).manifest
        trains = trains_of(self._run.rule, part.rung, self._run.state.step(round_))

        def work() -> None:
            if part.rung == FORWARD_ONLY:
                seed = local_seed(self._run.spec.seed, round_)
                most = forward_reach(self._run.file.local)
                check_steps(path, manifest, part.rank, seed, steps=part.steps, reach=most)
                return
            check_update(
                path,
                kind_of(part.role),
                manifest,
                rank=part.rank,
                codec=part.codec,
                max_rms=reach(lr, part.steps),
                trains=trains,
            )

        def then(outcome: object) -> None:
            self._checking.discard(key)
            if isinstance(outcome, RefusedUpdateError):
                self._refuse(round_, device, result, str(outcome), reply)
            elif isinstance(outcome, Exception):
                log.error("checking the update of %s failed", device, exc_info=outcome)
                self._refuse(round_, device, result, f"it can't be checked: {outcome}", reply)
            else:
                self._accept(round_, device, result, reply)

        self._run.desk.background(work, then)

    def _accept(self, round_: int, device: str, result: Result, reply: Answer) -> None:
        train = result.train
        if train is None or result.sha256 is None:
            return
        # Time has passed since the upload was looked at: the round may be closed by now.
        judged = verdict(self._run.state, device, round_, self._run.desk.now())
        if judged.counts == "refused":
            reply(Refused(re=result.id, session=result.session, reason=judged.reason))
            return
        self._run.record(
            events.UpdateAccepted(
                round=round_,
                device=device,
                sha256=result.sha256,
                size_bytes=self._run.desk.blobs.size(result.sha256) or 0,
                train=train,
                download_s=result.download_s,
                upload_s=result.upload_s,
                peak_bytes=result.peak_bytes,
            )
        )
        reply(Accepted(re=result.id, session=result.session))
        self._run.drive()

    def _refuse(self, round_: int, device: str, result: Result, reason: str, reply: Answer) -> None:
        log.warning("job %s: the update of %s is refused: %s", self._run.name, device, reason)
        self._run.record(events.TaskFailed(round=round_, device=device, reason=reason))
        reply(Refused(re=result.id, session=result.session, reason=reason))
        self._run.drive()
