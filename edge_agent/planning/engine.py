"""Memory of an inference engine: a base's file, mapped, and what computes with it.

A device without torch infers, and trains cores without backprop where the job lets it. Which file
of the base it reads, one of those that the hub makes, decides how much that takes: each kind has
lines of its own, the preferred one first.
"""

from collections.abc import Iterator, Sequence

from edge_agent.planning.counts import FLOAT_BYTES, Case, Sizes, stored_bytes
from edge_agent.planning.text import KEPT_BYTES, loading_bytes
from wire.derived import DERIVED
from wire.messages import JobKnobs, ModelShape

#: `edge_agent.inference.llama.engine.PIECE` and `rows._LOGITS`, which import the engine; a test
#: holds them equal. `_CELLS` is llama.cpp's own padding of a context.
PIECE = 128
LOGITS = 4 * 1024 * 1024
_CELLS = 256
#: Of a key's or a value's number: float16; and float32, of which a copy grows beside it.
_KEY_BYTES = {"llama.cpp": 2, "onnxruntime": 8}
#: Graph, backend buffers and heap of a context that don't follow from sizes [measured].
_CONTEXT_BYTES = 10_000_000
#: Of what a piece of tokens makes in a block, so many copies are there at a time [measured].
_COPIES = 2
#: What an engine can have a part in.
_METHODS = ("lora", "prompt", "lora+prompt")
#: The rung on which cores are trained without backprop.
FORWARD_ONLY = "forward-only"
#: An adapter is there as it was read, and as the engine has it. While cores move, the engine is
#: given the next one before it lets go of the last.
_ADAPTERS = {"infer": 2, FORWARD_ONLY: 5}


def engine_lines(
    shape: ModelShape, knobs: JobKnobs, runtime: str, kinds: Sequence[str]
) -> Iterator[tuple[str, Sizes, str]]:
    """Yield rung, sizes and kind of file of each line, the highest first.

    A device trains on a smaller file rather than evaluate on a preferred one (ADR 9).

    Args:
        shape: the base.
        knobs: of the job.
        runtime: the engine, as `wire.derived` names it.
        kinds: files that the hub makes of the base, the preferred one first.
    """
    found = readable(shape, runtime, kinds)
    if knobs.forward and "lora" in knobs.method:
        for kind in found:
            yield FORWARD_ONLY, Sizes(knobs.forward, knobs.forward_batch or 1, knobs.seq_len), kind
    for kind in found:
        yield "infer", Sizes(0, 1, knobs.seq_len), kind


def readable(shape: ModelShape, runtime: str, kinds: Sequence[str]) -> list[str]:
    """Return the kinds that an engine reads; empty text stands for the base's own file."""
    if shape.format == "gguf" and runtime == "llama.cpp":
        return [""]
    return [kind for kind in kinds if kind in DERIVED and DERIVED[kind].runtime == runtime]


def why_none(shape: ModelShape, knobs: JobKnobs, runtime: str, kinds: Sequence[str]) -> str:
    """Return why an engine can't have a part in a job; empty if it can."""
    if knobs.method in ("full", "pretrain"):
        return f"method {knobs.method} moves all weights, which {runtime} can't have moved"
    if knobs.method not in _METHODS:
        return "the job's method is unknown to this version. Update the agent."
    if knobs.prefix and knobs.prompt_tokens:
        return f"the prompt is a prefix in every layer, which {runtime} has no place for"
    if not readable(shape, runtime, kinds):
        made = ", ".join(kinds) or "none"
        return f"{runtime} reads none of the files that the hub makes of this base ({made})"
    return ""


def engine_terms(case: Case, rung: str, kind: str) -> dict[str, int]:
    """Return what a line holds at its peak beside the runtime, in bytes, by name.

    Args:
        case: the line.
        rung: ``forward-only`` or ``infer``.
        kind: of the base's file; empty for its own.
    """
    shape = case.shape
    runtime = DERIVED[kind].runtime if kind else "llama.cpp"
    cells = -(-case.row // _CELLS) * _CELLS
    piece = min(PIECE, case.row)
    outputs = max(1, min(piece, LOGITS // shape.vocab_size))
    # Of a block: states and norm, queries, keys and values, gate, up and product; then scores.
    wide = 4 * shape.hidden_size + 2 * case.queries + 2 * case.keys + 3 * shape.mlp_size
    scores = shape.heads * cells
    factors = case.factors(case.adapter_rank) * FLOAT_BYTES
    # ONNX Runtime computes in float32: a float16 matrix is there in both while it is used.
    matrix = FLOAT_BYTES * shape.vocab_size * shape.hidden_size if kind == "onnx-f16" else 0
    return {
        "file": file_bytes(shape, kind),
        "keys and values": 2 * shape.layers * case.keys * cells * _KEY_BYTES[runtime],
        "buffers": _CONTEXT_BYTES
        + _COPIES * piece * (wide + scores) * FLOAT_BYTES
        + 2 * outputs * shape.vocab_size * FLOAT_BYTES
        + matrix,
        "adapter": _ADAPTERS[rung] * factors + case.prompt_numbers * FLOAT_BYTES,
        "text": KEPT_BYTES,
    }


def engine_loading(case: Case) -> dict[str, int]:
    """Return what is there while text becomes tokens, before the base is used."""
    return {
        "adapter": case.factors(case.adapter_rank) * FLOAT_BYTES,
        "tokenizer": loading_bytes(case.shape),
    }


def file_bytes(shape: ModelShape, kind: str) -> int:
    """Return how much of a base's file a pass touches.

    Of an input embedding only the rows of tokens that occur are; half of them stands for that.
    """
    touched = 1.0
    if not shape.tied_embeddings:
        touched -= shape.vocab_size * shape.hidden_size / shape.parameters / 2
    if not kind:
        return int(stored_bytes(shape) * touched)
    return int(shape.parameters * DERIVED[kind].bits / 8 * touched)
