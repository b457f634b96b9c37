"""Memory of the rungs that hold the whole base: resident, checkpointed.

Where all weights are trained, the base is held as it was loaded, and beside it in float32 what is
trained, its gradient and the optimiser's state; everything is then computed in float32.

Counted from what PyTorch's autograd keeps of the blocks of transformers, with the low-rank layers
of `edge_agent.training.lowrank`. The letters are those of `streamed`: N positions, H hidden, M mlp,
Q all queries, K all keys.
"""

from dataclasses import replace

from edge_agent.planning.attention import scores_kept
from edge_agent.planning.counts import FLOAT_BYTES, Case, stored_bytes, stored_per_parameter

#: `edge_agent.training.loss.PIECE_LOGITS`; that module imports torch, so a test holds them equal.
PIECE_LOGITS = 2**20


def resident_terms(case: Case, rung: str) -> dict[str, int]:
    """Return what a rung holds at its peak beside the runtime, in bytes, by name.

    Args:
        case: the line.
        rung: ``resident`` or ``checkpointed``.
    """
    loading, working = _loading(case), _working(case, rung)
    return max(loading, working, key=lambda terms: sum(terms.values()))


def _loading(case: Case) -> dict[str, int]:
    """Return what is there while a base in another type is read: both it and its file."""
    if _mapped(case):
        return {}
    return {"weights": _weights(case), "their file": stored_bytes(case.shape)}


def _mapped(case: Case) -> bool:
    """Whether the file's own pages serve as weights: then they are there once, as they are used."""
    return (
        case.shape.stored in {2: ("bf16", ""), 4: ("f32", "")}[case.compute_bytes]
        and stored_per_parameter(case.shape) == case.compute_bytes
    )


def _weights(case: Case) -> int:
    """Return the bytes of the weights that are in memory.

    Of an input embedding that is a mapped file's, only the rows of tokens that occur are ever
    read; half of them stands for that.
    """
    shape, cb = case.shape, case.compute_bytes
    whole = shape.parameters * cb
    if not _mapped(case) or shape.tied_embeddings:
        return whole
    return whole - shape.vocab_size * shape.hidden_size * cb // 2


def _working(case: Case, rung: str) -> dict[str, int]:
    weights = _weights(case)
    if case.full:
        case = replace(case, compute_bytes=FLOAT_BYTES)
    shape, cb = case.shape, case.compute_bytes
    trained = shape.parameters if case.full else case.trained_factors(case.sizes.rank)
    held = trained if case.full else case.factors(case.adapter_rank)
    prompt = case.prompt_numbers * FLOAT_BYTES
    each = (2 + case.moments) * FLOAT_BYTES  # value, gradient, and what the optimiser keeps
    one_input = case.positions * shape.hidden_size * cb
    block = _block(case)
    kept = shape.layers * block if rung == "resident" else shape.layers * one_input + block
    return {
        "weights": weights,
        "adapter": trained * each + (held - trained) * FLOAT_BYTES + prompt,
        "activations": kept + case.moved,
        "under way": max(_backward(case), _head(case)),
    }


def _block(case: Case) -> int:
    """Return the bytes that autograd keeps of one block.

    Each norm keeps its input in float32. Then, in the compute type: both norms' outputs, which
    LoRA's A want; queries, keys, values, what they gather; the gate before and after its
    activation, the up projection, and their product; what stands between A and B. In bfloat16
    there are also copies of the factors.
    """
    shape, cb = case.shape, case.compute_bytes
    repeated = case.queries if shape.kv_heads < shape.heads else case.keys
    norms = 4 if shape.model_type == "gemma2" else 2
    wide = norms * shape.hidden_size + shape.heads + norms
    if case.full:
        wide += norms * shape.hidden_size  # normalised, for the gradients of the norms' weights
    if shape.model_type == "qwen3":
        wide += case.queries + case.keys
    narrow = 2 * shape.hidden_size + 2 * case.queries + 2 * repeated + 4 * shape.mlp_size
    narrow += len(case.linears) * case.sizes.rank
    copies = case.factors(case.adapter_rank) // shape.layers * cb if cb < FLOAT_BYTES else 0
    scores = scores_kept(case) if shape.model_type == "gemma2" else 0
    return case.positions * (wide * FLOAT_BYTES + narrow * cb) + copies + scores


def _backward(case: Case) -> int:
    """Return what goes through the last block: gradients in its MLP, and of its output."""
    shape = case.shape
    return case.positions * (3 * shape.mlp_size + 4 * shape.hidden_size) * case.compute_bytes


def _head(case: Case) -> int:
    """Return what the loss needs while everything is kept: a piece of logits at a time."""
    shape, cb = case.shape, case.compute_bytes
    positions = min(max(1, PIECE_LOGITS // shape.vocab_size), max(1, case.predicted))
    # In float32: logits, their logarithmic softmax, its gradient; and in bfloat16 both ends of it.
    each = 3 * FLOAT_BYTES + (2 * cb if cb < FLOAT_BYTES else 0)
    # The last norm's input in float32, its output, the predicting states, and their gradient.
    states = case.positions * shape.hidden_size * (FLOAT_BYTES + cb)
    states += case.predicted * shape.hidden_size * 2 * cb
    # Of the head's weights: a piece's gradient, before it is added to the others'.
    head = shape.vocab_size * shape.hidden_size * FLOAT_BYTES if case.full else 0
    return positions * shape.vocab_size * each + states + head
