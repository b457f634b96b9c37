"""Opens rounds: asks the scheduler, and logs the cohort or why there is none yet."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from hub.fleet.sessions import RESTS
from hub.rounds import actions, events
from hub.rounds.asked import forward_in_steps
from hub.rounds.losses import adapter_losses
from hub.rounds.timing import base_known, first_plans, timings
from hub.scheduling.contract import FORWARD_ONLY, DeviceView, JobView
from hub.scheduling.schedule import (
    CANDIDATE_VARIANTS,
    FINAL_VARIANTS,
    schedule,
    schedule_evaluation,
)
from wire.codecs import catalogue as codecs
from wire.messages import DeviceInfo, RungPlan
from wire.trained_factors import Trains

if TYPE_CHECKING:
    from hub.rounds.job_run import JobRun

log = logging.getLogger(__name__)

#: How long enough devices wait for those that are still planning.
GRACE_S = 8.0
#: Of a device's own reason in ours.
_MAX_WORDS = 200


class Opening:
    """How one job's rounds begin.

    Args:
        run: the job.
    """

    def __init__(self, run: "JobRun") -> None:
        self._run = run
        self._enough_since: float | None = None
        self._slow_planners: set[str] = set()  # sessions that had their moment

    def open(self, action: actions.Open) -> None:
        """Log a round's cohort, or for what it waits."""
        adapter_bytes = self._run.adapter_bytes()
        plan = schedule(
            self.view(adapter_bytes, action.round),
            self._devices(),
            timings(self._run.state, adapter_bytes),
            round_=action.round,
            exclude=action.exclude,
            first=first_plans(self._run.state),
            base_known=base_known(self._run.state),
            adapter_known=adapter_losses(self._run.state, self._run.state.adapter_round),
            need=action.need,
        )
        if plan.waiting_reason is not None:
            self._enough_since = None
            self._wait(action.round, plan.waiting_reason)
            return
        if self._waits_for_planners(action.round):
            return
        for member in plan.members:
            log.info("job %s, round %d: %s: %s", self._run.name, action.round, member.device,
                     member.reason)  # fmt: skip
        self._run.record(
            events.Opened(
                round=action.round,
                attempt=action.attempt,
                members=plan.members,
                deadline_s=plan.deadline_s,
                min_updates=plan.min_updates,
                left_out=plan.left_out,
            )
        )

    def _wait(self, round_: int, reason: str) -> None:
        if reason != self._run.state.current.waiting:
            log.info("job %s, round %d: %s", self._run.name, round_, reason)
            self._run.record(events.Waiting(round=round_, reason=reason))

    def _waits_for_planners(self, round_: int) -> bool:
        """Give devices that still plan a moment, though enough others are ready.

        Planning starts a worker the first time; without the wait, chance would pick the cohort.
        """
        live = self._run.desk.sessions.live()
        planning = [
            device.session
            for device in live
            if device.session is not None
            and device.session not in self._slow_planners
            and (device.info is None or self._run.name not in device.info.plans)
        ]
        now = self._run.desk.now()
        self._enough_since = self._enough_since or now
        if not planning or now - self._enough_since > GRACE_S:
            self._enough_since = None
            self._slow_planners.update(planning)
            return False
        self._wait(round_, f"enough devices are there; {len(planning)} more still plan")
        return True

    def open_evaluation(self, action: actions.OpenEvaluation) -> None:
        """Log which further devices evaluate a round's candidate, or take part in the final one."""
        devices = [one for one in self._devices() if one.id not in action.known]
        view = self.view(self._run.adapter_bytes(), action.round)
        variants = FINAL_VARIANTS if action.candidate is None else CANDIDATE_VARIANTS
        members = schedule_evaluation(view, devices, variants)
        if members:
            if action.candidate is not None and not action.known:
                # Before it is logged: who is offered it then finds it on the way, or asks for it.
                self._run.broadcast(action.candidate)
            self._run.record(
                events.Opened(
                    round=action.round,
                    attempt=action.attempt,
                    members=members,
                    deadline_s=action.remaining_s,
                )
            )

    def _devices(self) -> list[DeviceView]:
        return [
            DeviceView(
                id=device.id,
                plan=self._plan(device.info),
                codecs=tuple(device.info.codecs) if device.info else (),
                memory_limit_bytes=device.info.memory_limit_bytes if device.info else 0,
                ready=device.state not in RESTS,
                not_ready_reason=f"rests: {str(device.state_reason)[:_MAX_WORDS]}",
                up_limit_bytes_per_s=_bytes(
                    device.info.up_limit_bits_per_s if device.info else None
                ),
                down_limit_bytes_per_s=_bytes(
                    device.info.down_limit_bits_per_s if device.info else None
                ),
            )
            for device in self._run.desk.sessions.live()
        ]

    def _plan(self, info: DeviceInfo | None) -> RungPlan | None:
        """Return a device's plan, within what the job file allows: it weighs by its tokens."""
        plan = info.plans.get(self._run.name) if info else None
        if plan is None:
            return None
        file, forward = self._run.file, self._run.file.local.forward
        if plan.rung == FORWARD_ONLY and forward is None:
            return None  # planned for another job file; it will plan anew
        without = plan.rung == FORWARD_ONLY and forward is not None
        return msgspec.structs.replace(
            plan,
            rank=min(plan.rank, forward.side if forward and without else file.lora.rank),
            batch=min(plan.batch, forward.batch if forward and without else file.local.batch),
            seq_len=min(plan.seq_len, file.local.seq_len),
        )

    def view(self, adapter_bytes: int, round_: int) -> JobView:
        """Return the job as the scheduler sees it in a round."""
        file = self._run.file
        targets = self._run.base.chosen_targets(file.lora.targets)
        trains = self._run.rule.trains(self._run.state.step(round_))
        deadline = file.deadline_s
        return JobView(
            job=self._run.name,
            rounds=file.rounds,
            cohort_min=file.cohort.min,
            cohort_max=file.cohort.max,
            steps=file.local.steps,
            rank=file.lora.rank,
            codecs={name: codec.bits_per_parameter for name, codec in codecs().items()},
            biased=frozenset(name for name, codec in codecs().items() if codec.biased),
            codec=file.codec,
            deadline_s=None if isinstance(deadline, str) else deadline,
            seed=file.seed,
            adapter_bytes=adapter_bytes,
            lora_parameters_per_rank=_per_rank(targets, trains),
            matrices=len(targets),
            cores_alone=trains == "core",
            prompt_parameters=self._run.prompt_parameters,
            full_parameters=self._run.base.shape.parameters,
            forward_steps=file.local.forward.steps if file.local.forward else 0,
            forward_in_steps=forward_in_steps(file.local),
        )


def _bytes(bits_per_s: int | None) -> float | None:
    return bits_per_s / 8 if bits_per_s else None


def _per_rank(targets: Mapping[str, tuple[int, int]], trains: Trains) -> int:
    """Return how many numbers of an update each component takes; a layer is (out, in)."""
    b = 0 if trains == "a" else sum(out for out, _ in targets.values())
    a = 0 if trains == "b" else sum(inputs for _, inputs in targets.values())
    return a + b
