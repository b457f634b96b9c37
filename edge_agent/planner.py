"""Which role a device can take, from bytes: every rung with its peak, the highest that fits.

Only shapes and sizes go in, so that the supervisor plans without importing what it plans for. The
terms are counted from what PyTorch's autograd keeps of a Llama block (eager layers, SDPA) with the
layers of `edge_agent.training.lowrank`, all in float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2

from wire.messages import JobKnobs, ModelShape, RungPlan
from wire.messages.plan import Role

_FLOAT = 4  # bytes
#: `edge_agent.training.evaluate.MAX_ROWS` and `edge_agent.training.loss.PIECE_LOGITS`; those
#: modules import torch.
EVALUATED_ROWS = 4
PIECE_LOGITS = 2**20
#: Logits, their softmax, and the gradient, while one piece is differentiated.
_LOGIT_COPIES = 3
#: Tokenizer, rows of token ids, buffers of the allocator: what no shape explains [measured].
_SLACK_BYTES = 6_000_000

_RUNGS: dict[str, tuple[tuple[Role, str], ...]] = {
    "lora": (("lora", "resident"), ("infer", "infer")),
    "prompt": (("prompt", "prompt"), ("infer", "infer")),
    "lora+prompt": (("lora", "resident"), ("prompt", "prompt"), ("infer", "infer")),
}


@dataclass(frozen=True)
class _Sizes:
    """The knobs of one line."""

    rank: int
    batch: int
    seq_len: int


def ladder(
    shape: ModelShape, knobs: JobKnobs, limit_bytes: int, runtime_bytes: int
) -> list[RungPlan]:
    """Return every rung of a job, the highest first, each with its predicted peak.

    Within a rung the knobs shrink step by step to the job's floors; each step is a line.

    Args:
        shape: the base model.
        knobs: the job's method, sizes and floors.
        limit_bytes: for the whole agent.
        runtime_bytes: resident memory of the supervisor and a warm worker, before any task.

    Returns:
        At least one line; none for a method that this version does not know.
    """
    return [
        _line(shape, knobs, role, rung, sizes, limit_bytes=limit_bytes, runtime_bytes=runtime_bytes)
        for role, rung in _RUNGS.get(knobs.method, ())
        for sizes in _steps(role, knobs)
    ]


def choose(lines: list[RungPlan]) -> RungPlan:
    """Return the first line that fits, else role ``none`` with what is missing.

    Args:
        lines: of `ladder`.
    """
    for line in lines:
        if line.fits:
            return line
    if not lines:
        return RungPlan(
            role="none",
            rung="none",
            rank=0,
            batch=0,
            seq_len=0,
            predicted_peak_bytes=0,
            fits=False,
            reason="none: the job's method is unknown to this version. Update the agent.",
        )
    least = min(lines, key=lambda line: line.predicted_peak_bytes)
    return RungPlan(
        role="none",
        rung="none",
        rank=0,
        batch=0,
        seq_len=0,
        predicted_peak_bytes=least.predicted_peak_bytes,
        fits=False,
        missing_bytes=least.missing_bytes,
        reason=f"none: {_mb(least.missing_bytes)} are missing for the least rung: {least.reason}",
    )


def _steps(role: Role, knobs: JobKnobs) -> Iterator[_Sizes]:
    """Halve one knob at a time: the one that is furthest above its floor, in octaves."""
    if role == "infer":
        # Rows at a time change memory only; a shorter sequence would change the losses.
        batch = min(EVALUATED_ROWS, knobs.batch)
        while batch:
            yield _Sizes(0, batch, knobs.seq_len)
            batch //= 2
        return
    sizes = {"batch": knobs.batch, "rank": knobs.rank, "seq_len": knobs.seq_len}
    floors = {"batch": knobs.min_batch, "rank": knobs.min_rank, "seq_len": knobs.min_seq_len}
    if role == "prompt":
        del sizes["rank"]
    while True:
        yield _Sizes(sizes.get("rank", 0), sizes["batch"], sizes["seq_len"])
        # max() takes the first of equals, in the order above.
        knob = max(sizes, key=lambda name: log2(sizes[name] / max(1, floors[name])))
        if sizes[knob] <= floors[knob] or sizes[knob] <= 1:
            return
        sizes[knob] = max(sizes[knob] // 2, floors[knob], 1)


def _line(
    shape: ModelShape,
    knobs: JobKnobs,
    role: Role,
    rung: str,
    sizes: _Sizes,
    *,
    limit_bytes: int,
    runtime_bytes: int,
) -> RungPlan:
    loading, working = _loading(shape), _working(shape, knobs, role, sizes)
    stage = loading if sum(loading.values()) > sum(working.values()) else working
    terms = {"runtime": runtime_bytes, **stage}
    peak = sum(terms.values())
    fits = peak <= limit_bytes
    listed = " + ".join(f"{name} {_mb(size)}" for name, size in terms.items())
    rank = f", rank {sizes.rank}" if sizes.rank else ""
    return RungPlan(
        role=role,
        rung=rung,
        rank=sizes.rank,
        batch=sizes.batch,
        seq_len=sizes.seq_len,
        predicted_peak_bytes=peak,
        fits=fits,
        missing_bytes=max(0, peak - limit_bytes),
        reason=f"{rung}: {listed} ({sizes.batch} x {sizes.seq_len} tokens{rank}) = {_mb(peak)}; "
        f"limit {_mb(limit_bytes)}",
    )


def _loading(shape: ModelShape) -> dict[str, int]:
    """Return what is resident while the base is read: the mapped file counts until it is closed."""
    return {
        "weights": shape.parameters * _FLOAT,
        "their file": shape.parameters * shape.weight_bytes,
        "other": _SLACK_BYTES,
    }


def _working(shape: ModelShape, knobs: JobKnobs, role: Role, sizes: _Sizes) -> dict[str, int]:
    """Return what training, or evaluation, holds at its peak, in bytes, by name."""
    adapter_rank = 0 if knobs.method == "prompt" else knobs.rank
    prompt = knobs.prompt_tokens * shape.hidden_size
    trained = {"lora": _factors(shape, sizes.rank), "prompt": prompt}.get(role, 0)
    # The trained part stands twice: training starts from a copy that the update is taken from.
    held = _factors(shape, adapter_rank) + prompt + trained
    terms = {
        "weights": shape.parameters * _FLOAT,
        "adapter": held * _FLOAT,
    }
    if role != "infer":
        terms["gradients"] = trained * _FLOAT
        terms["optimiser"] = 2 * trained * _FLOAT
    row = sizes.seq_len + knobs.prompt_tokens
    if role == "infer":
        terms["activations"] = sizes.batch * row * _passing(shape) * _FLOAT
    else:
        terms["activations"] = sizes.batch * row * _kept(shape, role, sizes.rank) * _FLOAT
    terms["logits"] = _logits(shape, sizes) * _FLOAT
    terms["other"] = _SLACK_BYTES
    return terms


def _factors(shape: ModelShape, rank: int) -> int:
    """Numbers in the LoRA factors of all linear layers of the blocks."""
    hidden, mlp = shape.hidden_size, shape.mlp_size
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if rank == 0:
        return 0
    edges = 2 * (hidden + queries) + 2 * (hidden + keys) + 3 * (hidden + mlp)
    return shape.layers * rank * edges


def _kept(shape: ModelShape, role: Role, rank: int) -> int:
    """Numbers that autograd holds for one token between the forward and the backward pass.

    A block: both norms keep their input; attention keeps queries, keys, values and its output
    (and one number a head); the MLP keeps the gate before and after SiLU, and the up projection.
    LoRA's A also keep theirs: both norms' outputs, the attention's output (already counted), the
    MLP's product, and r numbers for each of seven layers. At the peak the MLP of the last block
    has three more tensors of its width under way.
    """
    hidden, mlp = shape.hidden_size, shape.mlp_size
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    block = 2 * hidden + 2 * queries + 2 * keys + 3 * mlp + shape.heads + 2
    if role == "lora":
        block += 2 * hidden + mlp + 7 * rank
    return shape.layers * block + 2 * hidden + 3 * mlp


def _passing(shape: ModelShape) -> int:
    """Numbers for one token in the widest place of a forward pass: the MLP of a block."""
    return 4 * shape.hidden_size + 3 * shape.mlp_size


def _logits(shape: ModelShape, sizes: _Sizes) -> int:
    positions = min(max(1, PIECE_LOGITS // shape.vocab_size), sizes.batch * sizes.seq_len)
    return _LOGIT_COPIES * positions * shape.vocab_size


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"
