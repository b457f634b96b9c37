"""What a job asks of whoever trains in a round."""

from typing import TYPE_CHECKING

from hub.aggregation.check import reach
from hub.aggregation.contract import Kind, ProductRule, Trained
from hub.aggregation.forward_only import core_shapes
from hub.job_parts import AdversarialPart, LocalPart
from hub.rounds.state import Update
from hub.scheduling.contract import FORWARD_ONLY
from wire.forward_only import VERSION
from wire.manifest import AdapterManifest
from wire.messages import Adversarial, ForwardOnly, LocalWork
from wire.messages.plan import Role
from wire.trained_factors import Trains

if TYPE_CHECKING:
    from hub.rounds.job_run import JobRun

#: The rungs on which a device trains cores, whatever the others do.
CORE_RUNGS = ("core", FORWARD_ONLY)

#: A step's pass forward and back takes as long as so many passes forward (arXiv:2001.08361, 2.1).
_PASSES = 3

#: Whoever has memory for inference alone trains cores without backprop, if anything.
_KINDS: dict[str, Kind] = {"lora": "lora", "full": "full", "infer": "lora"}


def kind_of(role: str) -> Kind:
    """Return which part of the adapter a device of a role trains."""
    return _KINDS.get(role, "prompt")


def trains_of(rule: ProductRule, rung: str, step: int) -> Trains:
    """Return what a device on a rung trains in a round; ``step`` is `JobState.step`."""
    return "core" if rung in CORE_RUNGS else rule.trains(step)


def local_work(
    run: "JobRun", role: Role, rung: str, round_: int, *, steps: int, batch: int, seq_len: int
) -> LocalWork:
    """Return one training of a job as its file and its rule say.

    Args:
        run: the job.
        role: what is trained.
        rung: on which it is trained.
        round_: counted from 1.
        steps: of the optimiser.
        batch: sequences in a step.
        seq_len: the longest, in tokens.
    """
    local, lora = run.file.local, kind_of(role) == "lora"
    return LocalWork(
        steps=steps,
        batch=batch,
        seq_len=seq_len,
        optimizer=local.optimizer,
        lr=run.lr(role),
        seed=local_seed(run.spec.seed, round_),
        momentum=local.momentum,
        weight_decay=local.weight_decay,
        schedule=local.schedule,
        warmup_steps=local.warmup_steps,
        clip=local.clip,
        accumulate=local.accumulate,
        adversarial=_adversarial(local.adversarial),
        trains=trains_of(run.rule, rung, run.state.step(round_)) if lora else "both",
        rest=run.rule.rest if lora else "frozen",
        forward=forward_of(local) if rung == FORWARD_ONLY else None,
    )


def local_seed(seed: int, round_: int) -> int:
    """Return the seed of all devices' training in a round, from the job's."""
    return seed * 1_000_003 + round_


def forward_reach(local: LocalPart) -> float:
    """Return the greatest root mean square of a core's move without backprop: as far as with it."""
    return reach(local.lr, local.steps)


def forward_in_steps(local: LocalPart) -> int:
    """Return how many steps with backprop take as long as a round's directions; 0: nobody looks.

    A direction costs two losses; new sequences, and the first ones in the end, one each.
    """
    part = local.forward
    if part is None:
        return 0
    losses = 2 * part.steps + -(-part.steps // part.fresh) + 1
    return -(-losses * part.batch // (_PASSES * local.batch))


def forward_of(local: LocalPart) -> ForwardOnly | None:
    """Return how devices train without backprop; None: none does."""
    part = local.forward
    if part is None:
        return None
    return ForwardOnly(
        version=VERSION,
        epsilon=part.epsilon,
        fresh=part.fresh,
        reach=forward_reach(local),
    )


def told_of(run: "JobRun", update: Update, round_: int, start: AdapterManifest) -> Trained:
    """Return what a strategy is told of an update that is combined in a round.

    Args:
        run: the job.
        update: accepted.
        round_: in which it is combined.
        start: manifest of the job's first adapter.
    """
    local = run.file.local
    return Trained(
        device=update.device,
        tokens=counted_tokens(update, local, start),
        staleness=update.staleness(round_),
        # A direction is no step of the optimiser: who looks counts as one that did a round's work.
        steps=local.steps if update.rung == FORWARD_ONLY else update.steps,
        lr=run.lr(update.role),
        momentum=local.momentum,
    )


def counted_tokens(update: Update, local: LocalPart, manifest: AdapterManifest) -> int:
    """Return by how many tokens an update counts.

    A direction tells one of the numbers of a gradient: as many directions as there are numbers in
    the cores count as one step on their tokens.
    """
    if update.rung != FORWARD_ONLY or local.forward is None:
        return update.tokens
    numbers = sum(side * side for side, _ in core_shapes(manifest, update.rank).values())
    return max(1, update.tokens * local.forward.fresh // numbers)


def _adversarial(part: AdversarialPart | None) -> Adversarial | None:
    return None if part is None else Adversarial(kind=part.kind, epsilon=part.epsilon)
