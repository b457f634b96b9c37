"""Memory of the rungs that leave the base in its file: streamed, core, prompt, infer.

Counted from what `edge_agent.training.blockwise` keeps, tensor by tensor. The letters are those of
the formulas: N positions, n of them with a loss, H hidden, M mlp, Q all queries, K all keys.
"""

from edge_agent.planning.attention import Attention
from edge_agent.planning.counts import (
    FLOAT_BYTES,
    Case,
    stored_bytes,
    stored_per_parameter,
)

#: Of `edge_agent.training.blockwise`: `head.PIECE_LOGITS`, `head.LEAST_ROWS`,
#: `mapped_weights.PIECE_BYTES`; and `edge_agent.training.evaluate.MAX_ROWS`. Those modules
#: import torch; a test holds them equal.
PIECE_LOGITS = 2**20
LEAST_ROWS = 256
PIECE_BYTES = 8 * 1024 * 1024
EVALUATED_ROWS = 4
#: These never go backward.
FORWARDS = ("forward-only", "infer")
#: `edge_agent.training.bases._BLOCKWISE_HEAP`: smaller tensors come from a heap that keeps what is
#: freed. It fragments: by 12 MB, and half of what such tensors hold at a time [measured].
HEAP_THRESHOLD_BYTES = 2 * 1024 * 1024
_HEAP_BYTES = 12_000_000
_HEAP_SHARE = 0.5


def streamed_terms(case: Case, rung: str) -> dict[str, int]:
    """Return what a rung holds at its peak beside the runtime, in bytes, by name.

    Args:
        case: the line.
        rung: ``streamed``, ``core``, ``prompt``, ``forward-only`` or ``infer``.
    """
    standing = _standing(case, rung)
    if rung in FORWARDS:
        return standing | {"block": _evaluating(case)}
    trained = trained_numbers(case, rung)
    gradients = trained * (FLOAT_BYTES if rung == "prompt" else case.compute_bytes)
    one_input = case.positions * case.shape.hidden_size * case.compute_bytes
    layers = case.shape.layers
    # From the second pass of a step on, the first one's gradients are there throughout.
    before = {"gradients": gradients} if case.passes > 1 else {}
    # Inputs go as gradients come, so that it is the first or the last block that needs most.
    stages = {
        "head": {"block inputs": layers * one_input, **before, "block": _head(case, rung)},
        "last": {
            "block inputs": layers * one_input,
            "gradients": before.get("gradients", gradients // layers),
            "block": _backward(case, rung),
        },
        "first": {
            "block inputs": one_input,
            "gradients": gradients,
            "block": _backward(case, rung),
        },
        "evaluation": {"block": _evaluating(case)},
    }
    if case.moved:
        standing["moved"] = case.moved
    if rung == "core":  # which are made once for a base, and then read from their file
        stages["directions"] = {"directions": case.factors(case.sizes.rank) * case.compute_bytes}
    return standing | max(stages.values(), key=lambda stage: sum(stage.values()))


def trained_numbers(case: Case, rung: str) -> int:
    """Return how many numbers a rung trains."""
    rank = case.sizes.rank
    if case.full:
        return case.shape.parameters if rung != "infer" else 0
    if rung in ("core", "forward-only"):
        return case.shape.layers * len(case.linears) * rank * rank
    if rung == "prompt":
        return case.prompt_numbers
    return case.trained_factors(rank) if rung != "infer" else 0


def _standing(case: Case, rung: str) -> dict[str, int]:
    """Return what is there throughout."""
    shape = case.shape
    lead = case.sizes.rank if rung == "streamed" else 0
    rest = 0 if case.local else max(0, case.adapter_rank - lead)
    still = case.factors(lead) - case.trained_factors(lead)
    frozen = (case.factors(rest) + still) * case.compute_bytes
    # Without backprop: the cores, where they have come to in double precision, and copies of that.
    kept = 6 if rung == "forward-only" else 1 + case.moments
    state = trained_numbers(case, rung) * kept * FLOAT_BYTES
    terms = {"adapter": frozen + state + case.prompt_numbers * FLOAT_BYTES}
    # Norms and biases are copies in float32.
    small = shape.layers * (4 * shape.hidden_size + 2 * case.queries) * FLOAT_BYTES
    terms["norms"] = small
    terms["heap"] = _heap(case, rung)
    if _converted(case):
        terms["buffer"] = min(PIECE_BYTES, _largest(case))
    return terms


def _heap(case: Case, rung: str) -> int:
    """Return what the heap takes beyond what is in it."""
    shape = case.shape
    rows = min(EVALUATED_ROWS, case.sizes.rows) if rung in FORWARDS else case.sizes.rows
    inputs = 2 if rung in FORWARDS else shape.layers
    column = rows * case.row * case.compute_bytes
    tensors = ((inputs + 4, shape.hidden_size), (4, case.queries), (6, shape.mlp_size))
    small = sum(
        count * width * column for count, width in tensors if width * column < HEAP_THRESHOLD_BYTES
    )
    return _HEAP_BYTES + int(small * _HEAP_SHARE)


def _converted(case: Case) -> bool:
    """Whether what is handed out is a copy in another type than the file's."""
    shape = case.shape
    same = {2: ("bf16", ""), 4: ("f32", "")}[case.compute_bytes]
    exact = stored_per_parameter(shape) == case.compute_bytes
    return shape.format != "safetensors" or shape.stored not in same or not exact


def _largest(case: Case) -> int:
    """Return the bytes of the largest matrix of a block as it is computed with."""
    return max(out * inp for out, inp in case.linears) * case.compute_bytes


def _under_way(case: Case, numbers: int) -> int:
    """Return the mapped bytes of a piece of a matrix that is being used."""
    piece = min(PIECE_BYTES, numbers * case.compute_bytes)
    per_parameter = stored_bytes(case.shape) / case.shape.parameters
    return int(piece * per_parameter / case.compute_bytes)


def _saved(case: Case, rung: str) -> int:
    """Numbers a position that a block keeps between its forward and its backward pass.

    Both norms' outputs and the second one's input (3 H), queries, keys, values, what they gather,
    and the MLP's gate, up and product. A prompt's gradient passes through without what only a
    factor's gradient wants: the norms' outputs and the product.
    """
    shape = case.shape
    saved = 3 * shape.hidden_size + Attention(case).saved + 3 * shape.mlp_size
    if rung == "prompt":
        saved -= 2 * shape.hidden_size + shape.mlp_size
    return saved + (2 * shape.hidden_size if shape.model_type == "gemma2" else 0)


def _backward(case: Case, rung: str) -> int:
    """Return the working set of a block's backward pass, its input left out."""
    shape, attention = case.shape, Attention(case)
    hidden, mlp = shape.hidden_size, shape.mlp_size
    n, saved = case.positions * case.compute_bytes, _saved(case, rung)
    products = 2 if rung == "prompt" else 3  # of the MLP's width, of those that are kept
    # The gate's: the product is gone; gradients of gate and up are there.
    fused = mlp if shape.model_type == "phi3" else 0
    gate = n * (saved - products * mlp + hidden + 4 * mlp + fused) + attention.scores_saved
    # The last matrix's: the product is still there, and its gradient comes in pieces.
    down_numbers = hidden * mlp
    pieces = 2 if down_numbers * case.compute_bytes > PIECE_BYTES else 1
    down = n * (saved + hidden + pieces * mlp) + attention.scores_saved
    down += _under_way(case, down_numbers) + _scratch(case)
    # The MLP is done with: what it saved is gone.
    attend = n * (saved - products * mlp + 2 * hidden) + attention.backward
    return max(gate, down, attend)


def _scratch(case: Case) -> int:
    """Sums in float32 of products in bfloat16."""
    if case.compute_bytes == FLOAT_BYTES:
        return 0
    return case.positions * case.shape.hidden_size * FLOAT_BYTES


def _head(case: Case, rung: str) -> int:
    """Return the last block's working set and the head's, between forward and backward pass."""
    hidden, vocab = case.shape.hidden_size, case.shape.vocab_size
    cb, n = case.compute_bytes, case.predicted
    saved = case.positions * _saved(case, rung) * cb + Attention(case).scores_saved
    # States before and after the last norm, and their gradient in float32.
    states = n * hidden * (2 * cb + FLOAT_BYTES)
    logits = n * min(max(LEAST_ROWS, PIECE_LOGITS // max(1, n)), vocab)
    products = logits * (FLOAT_BYTES + cb) + n * hidden * cb + _scratch(case)
    products += _under_way(case, vocab * hidden)
    # Then the wanted tokens' rows, times the states, in float32.
    wide = 3 if cb < FLOAT_BYTES else 1
    right = n * hidden * (cb + wide * FLOAT_BYTES)
    return saved + states + max(products, right)


def _evaluating(case: Case) -> int:
    """Return the working set of a forward pass that keeps nothing, over a few rows at a time."""
    shape, cb = case.shape, case.compute_bytes
    hidden, mlp = shape.hidden_size, shape.mlp_size
    rows = min(EVALUATED_ROWS, case.sizes.rows)
    n, predicted = rows * case.row, rows * (case.sizes.seq_len - 1)
    # Input, sum behind the attention and its norm; gate, up and product; the result in pieces.
    feed = n * cb * (5 * hidden + 3 * mlp) + _under_way(case, hidden * mlp)
    attend = n * cb * (3 * hidden + Attention(case).forward(rows) // max(1, n * cb))
    logits = predicted * min(max(LEAST_ROWS, PIECE_LOGITS // max(1, predicted)), shape.vocab_size)
    head = n * cb * hidden + predicted * hidden * 2 * cb
    head += max(
        logits * (FLOAT_BYTES + cb) + _under_way(case, shape.vocab_size * hidden),
        predicted * hidden * (cb + (3 if cb < FLOAT_BYTES else 1) * FLOAT_BYTES),
    )
    return max(feed, attend, head)
