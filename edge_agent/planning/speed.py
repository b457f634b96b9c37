"""How long a step takes: arithmetic, fresh memory, and weights to expand.

What a disk takes that has to be read again in each step, because the file is larger than the
memory that is left for its pages, is not in it: how fast that is, nobody has measured.
"""

from edge_agent.calibration import Measured, Speed
from edge_agent.planning.counts import Case
from edge_agent.planning.streamed import FORWARDS

#: Products with each matrix of a block: forward pass, again in the backward pass (without the last
#: matrix where blocks are gone through one by one), gradients of inputs.
_PASSES = {
    "resident": 2.0,
    "checkpointed": 3.0,
    "streamed": 3.0,
    "core": 3.0,
    "prompt": 3.0,
    "forward-only": 1.0,
    "infer": 1.0,
}
_BLOCKWISE = ("streamed", "core", "prompt", "forward-only", "infer")
#: Losses of a direction, and of the sequences anew now and then.
_LOOKS = 2.15
_KINDS = {2: "bf16", 4: "f32"}


def step_flops(case: Case, rung: str) -> float:
    """Return the floating-point operations of a pass.

    Of rungs that never go backward that is a batch's evaluation.
    """
    shape = case.shape
    products = _PASSES[rung] * case.block_parameters
    if rung in _BLOCKWISE and rung not in FORWARDS:
        out, inp = case.linears[-1]
        products -= out * inp
    if case.full and rung not in FORWARDS:
        products += case.block_parameters  # gradients of the weights
    # An adapter's factors: forward, again, and gradients of inputs, and of what is trained.
    products += _PASSES[rung] * case.factors(case.adapter_rank) / shape.layers
    if rung in ("resident", "checkpointed", "streamed"):
        products += 2 * case.factors(case.sizes.rank) / shape.layers
    # Scores and what is gathered, of half of all pairs; backward two and a half times as much.
    attention = case.row * case.queries * (1 + (2.5 if rung not in FORWARDS else 0))
    if rung not in ("resident", *FORWARDS):
        attention += case.row * case.queries
    head = (1 if rung in FORWARDS else 3 if case.full else 2) * shape.vocab_size * shape.hidden_size
    return 2.0 * (case.positions * shape.layers * (products + attention) + case.predicted * head)


def made_bytes(case: Case, rung: str) -> float:
    """Return the bytes of all activations that a pass makes anew."""
    shape = case.shape
    # Queries and what they gather; keys and values, and again for each query head.
    repeated = case.queries if shape.kv_heads < shape.heads else case.keys
    attended = 2 * case.queries + 2 * repeated + 2 * case.keys
    if shape.model_type == "qwen3":
        attended += case.queries + case.keys  # the inputs of their norms
    forward = 6 * shape.hidden_size + attended + 3 * shape.mlp_size
    backward = 8 * shape.hidden_size + 5 * case.queries + 4 * shape.mlp_size
    passes = {"resident": forward + backward, "infer": forward, "forward-only": forward}
    numbers = passes.get(rung, 2 * forward + backward)
    return float(case.positions * shape.layers * numbers * case.compute_bytes)


def expanded_numbers(case: Case, rung: str) -> float:
    """Return how many weights are expanded in a pass, where the file's type is another one."""
    times = 1 if rung in FORWARDS else 3
    shape = case.shape
    return float(
        times * shape.layers * case.block_parameters + shape.vocab_size * shape.hidden_size
    )


def step_seconds(case: Case, rung: str, measured: Measured | None) -> float | None:
    """Return the predicted seconds of a step, None where nothing was measured.

    Args:
        case: the line.
        rung: of the ladder.
        measured: on this device.
    """
    kind = _KINDS[case.compute_bytes]
    speed: Speed | None = None if measured is None else measured.speeds.get(kind)
    if measured is None or speed is None:
        return None
    seconds = step_flops(case, rung) / speed.flops_per_s
    seconds += made_bytes(case, rung) / speed.made_bytes_per_s
    expand = measured.expand_per_s.get(case.shape.stored)
    if rung in _BLOCKWISE and expand is not None:
        seconds += expanded_numbers(case, rung) / expand
    if rung == "forward-only":
        return seconds * _LOOKS
    return seconds if rung == "infer" else seconds * case.passes
