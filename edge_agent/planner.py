"""Which role a device can take, from bytes: every rung with its peak, the highest that fits.

Only shapes, sizes and what was measured of the device go in, so that the supervisor plans without
importing what it plans for. The order of the lines is explained in
``docs/adr/0009-the-whole-job-before-the-fastest-rung.md``.
"""

from collections.abc import Iterator
from math import log2

import msgspec

from edge_agent.calibration import Calibration
from edge_agent.planning.counts import FLOAT_BYTES, Case, Sizes, stored_per_parameter
from edge_agent.planning.resident import resident_terms
from edge_agent.planning.speed import step_seconds
from edge_agent.planning.streamed import EVALUATED_ROWS, streamed_terms
from edge_agent.planning.text import KEPT_BYTES, loading_bytes
from edge_agent.planning.traffic import bytes_down, bytes_up
from wire.messages import JobKnobs, ModelShape, RungPlan
from wire.messages.plan import Role
from wire.shape import FAMILIES

#: A line fits if this share of its peak stays free: few predictions were further below [measured].
SPARE = 0.03
#: What transformers weighs, and autograd within its blocks, for a family without blocks of ours
#: [measured: 102 to 124 MB for GPT-2 and OLMo 2, 256 tokens].
OTHERS_BYTES = 115_000_000
#: These hold the whole base through transformers and PEFT, from safetensors only.
RESIDENT = ("resident", "checkpointed")
_LORA: tuple[tuple[Role, str], ...] = (
    ("lora", "resident"),
    ("lora", "checkpointed"),
    ("lora", "streamed"),
)
_CORE: tuple[tuple[Role, str], ...] = (("lora", "core"),)
_FULL: tuple[tuple[Role, str], ...] = (("full", "resident"), ("full", "checkpointed"))
_PROMPT: tuple[tuple[Role, str], ...] = (("prompt", "prompt"),)
_FORWARD: tuple[tuple[Role, str], ...] = (("infer", "forward-only"),)
_INFER: tuple[tuple[Role, str], ...] = (("infer", "infer"),)


def ladder(
    shape: ModelShape,
    knobs: JobKnobs,
    limit_bytes: int,
    calibration: Calibration,
    *,
    local: bool = False,
) -> list[RungPlan]:
    """Return every rung of a job, the highest first, each with its predicted peak.

    Within a rung the knobs shrink step by step to the job's floors; each step is a line.

    Args:
        shape: the base model.
        knobs: the job's method, sizes and floors.
        limit_bytes: for the whole agent.
        calibration: of this device.
        local: a task without a hub: its adapter has no rank but the one that is trained.

    Returns:
        At least one line; none for a method that this version does not know.
    """
    number_bytes = calibration.compute_bytes(stored_per_parameter(shape))
    return [
        _line(Case(shape, knobs, sizes, number_bytes, local), role, rung, limit_bytes, calibration)
        for role, rung in _rungs(shape, knobs)
        for sizes in _steps(role, rung, knobs)
    ]


def local_ladder(
    shape: ModelShape, knobs: JobKnobs, limit_bytes: int, calibration: Calibration
) -> list[RungPlan]:
    """Return every rung there is for a task without a hub, each for a role by itself.

    Its adapter is what is trained: LoRA factors or cores without a prompt, or a prompt alone.

    Args:
        shape: the base model.
        knobs: sizes and floors; any method.
        limit_bytes: for the whole agent.
        calibration: of this device.
    """
    lora = msgspec.structs.replace(knobs, method="lora", cores=True, prompt_tokens=0)
    prompt = msgspec.structs.replace(knobs, method="prompt")
    lines = [
        line
        for one in (lora, prompt)
        for line in ladder(shape, one, limit_bytes, calibration, local=True)
    ]
    roles: tuple[Role, ...] = ("lora", "prompt", "infer")
    found = [line for role in roles for line in lines if line.role == role]
    # Both have the same lines for inference, the prompt's with its positions in front.
    infer = {(line.batch, line.seq_len): line for line in found if line.role == "infer"}
    return [line for line in found if line.role != "infer"] + list(infer.values())


def needed_bytes(peak_bytes: int) -> int:
    """Return the limit from which on a line with such a predicted peak fits."""
    return int(peak_bytes * (1 + SPARE))


def choose(lines: list[RungPlan]) -> RungPlan:
    """Return the first line that fits, else role ``none`` with what is missing.

    Args:
        lines: of `ladder`.
    """
    for line in lines:
        if line.fits:
            return line
    if not lines:
        return _none(0, 0, "the job's method is unknown to this version. Update the agent.")
    least = min(lines, key=lambda line: line.predicted_peak_bytes)
    missing = f"{_mb(least.missing_bytes)} are missing for the least rung: {least.reason}"
    return _none(least.predicted_peak_bytes, least.missing_bytes, missing)


def _none(peak_bytes: int, missing_bytes: int, reason: str) -> RungPlan:
    return RungPlan(
        role="none",
        rung="none",
        rank=0,
        batch=0,
        seq_len=0,
        predicted_peak_bytes=peak_bytes,
        fits=False,
        missing_bytes=missing_bytes,
        reason=f"none: {reason}",
    )


def _rungs(shape: ModelShape, knobs: JobKnobs) -> list[tuple[Role, str]]:
    """Return the rungs that a job's method and a base's file allow, the highest first."""
    # Other families are streamed on every rung (`edge_agent.training.bases`).
    held = shape.format == "safetensors" and shape.model_type in FAMILIES
    lora = [one for one in _LORA if held or one[1] not in RESIDENT]
    cores = _CORE if knobs.cores else ()
    forward = _FORWARD if knobs.forward else ()
    known: dict[str, list[tuple[Role, str]]] = {
        "lora": [*lora, *cores, *forward, *_INFER],
        "prompt": [*_PROMPT, *_INFER],
        "lora+prompt": [*lora, *_PROMPT, *forward, *_INFER],
        "full": [*(_FULL if held else ()), *_INFER],
    }
    return known.get(knobs.method, [])


def _steps(role: Role, rung: str, knobs: JobKnobs) -> Iterator[Sizes]:
    """Halve one knob at a time: the one that is furthest above its floor, in octaves."""
    if rung == "forward-only":
        # Of its sequences a few are in memory at a time, so that fewer of them save nothing.
        seq_len = knobs.seq_len
        while True:
            yield Sizes(knobs.forward, knobs.forward_batch or 1, seq_len)
            if seq_len <= knobs.min_seq_len:
                return
            seq_len = max(seq_len // 2, knobs.min_seq_len)
    if role == "infer":
        # Rows at a time change memory only; a shorter sequence would change the losses.
        batch = min(EVALUATED_ROWS, knobs.batch)
        while batch:
            yield Sizes(0, batch, knobs.seq_len)
            batch //= 2
        return
    sizes = {"batch": knobs.batch, "rank": knobs.rank, "seq_len": knobs.seq_len}
    floors = {"batch": knobs.min_batch, "rank": knobs.min_rank, "seq_len": knobs.min_seq_len}
    if role in ("prompt", "full"):
        del sizes["rank"]
    while True:
        yield Sizes(sizes.get("rank", 0), sizes["batch"], sizes["seq_len"], knobs.accumulate)
        if rung in RESIDENT and (role, rung) != _FULL[-1]:
            return  # less work than was asked for is done on lower rungs, which need less anyway
        # max() takes the first of equals, in the order above.
        knob = max(sizes, key=lambda name: log2(sizes[name] / max(1, floors[name])))
        if sizes[knob] <= floors[knob] or sizes[knob] <= 1:
            return
        sizes[knob] = max(sizes[knob] // 2, floors[knob], 1)


def _line(
    case: Case, role: Role, rung: str, limit_bytes: int, calibration: Calibration
) -> RungPlan:
    terms = _terms(case, rung, calibration)
    peak = sum(terms.values())
    needed = needed_bytes(peak)
    sizes = case.sizes
    listed = " + ".join(f"{name} {_mb(size)}" for name, size in terms.items())
    rank = f", rank {sizes.rank}" if sizes.rank else ""
    parts = f", {sizes.rows} at a time" if sizes.rows < sizes.batch else ""
    return RungPlan(
        role=role,
        rung=rung,
        rank=sizes.rank,
        batch=sizes.batch,
        seq_len=sizes.seq_len,
        predicted_peak_bytes=peak,
        fits=needed <= limit_bytes,
        missing_bytes=max(0, needed - limit_bytes),
        reason=f"{rung}: {listed} ({sizes.batch} x {sizes.seq_len} tokens{parts}{rank}) = "
        f"{_mb(peak)}, {_mb(needed)} with some to spare; limit {_mb(limit_bytes)}",
        step_s=step_seconds(case, rung, calibration.measured),
        bytes_up=bytes_up(case, rung),
        bytes_down=bytes_down(case),
    )


def _terms(case: Case, rung: str, calibration: Calibration) -> dict[str, int]:
    """Return what a line holds at its peak, supervisor included, in bytes, by name."""
    full = rung in RESIDENT
    runtime = {"runtime": calibration.runtime_bytes(full=full)}
    if case.shape.model_type not in FAMILIES:
        runtime["transformers"] = OTHERS_BYTES
    held = resident_terms(case, rung) if full else streamed_terms(case, rung)
    kernels = calibration.kernel_bytes(case.compute_bytes, case.shape.hidden_size)
    working = runtime | {"kernels": kernels} | held | {"text": KEPT_BYTES}
    loading = runtime | {"adapter": held.get("adapter", 0)}
    loading |= {"tokenizer": loading_bytes(case.shape)}
    if case.full and rung == "infer":
        # The largest tensor, its move and their sum, while the moved model is written.
        loading |= {"moving": 3 * FLOAT_BYTES * case.shape.vocab_size * case.shape.hidden_size}
    return max(working, loading, key=lambda terms: sum(terms.values()))


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"
