"""One sequence read in pieces, so that neither activations nor logits grow with its length."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.errors import EngineError
from edge_agent.inference.onnx.cache import Cache, Piece
from edge_agent.inference.onnx.model import OnnxModel
from edge_agent.loss import Loss
from wire.labels import IGNORED

Array = NDArray[np.float32]

#: Tokens that are read at once: enough that matrices aren't fetched for few of them.
PIECE_TOKENS = 128
#: Logits that there are at once, in numbers; more only where one piece would have fewer than 16.
PIECE_LOGITS = 2**22
_LEAST_ROWS = 16


def prompt_piece(
    model: OnnxModel, prompt: Array | None, factors: Mapping[str, Any], whole: int
) -> Piece | None:
    """Return keys and values of a soft prompt, None if there is none.

    Args:
        model: the base.
        prompt: (tokens, hidden).
        factors: the adapter's.
        whole: positions that texts behind it will have, its own included.
    """
    if prompt is None:
        return None
    nothing = np.zeros((1, 0), dtype=np.int64)
    empty = Cache(model.sizes, 1).past(slice(0, 1))
    made = model.run(nothing, [0], empty, factors, places=[], whole=whole, prompt=prompt)
    return made.new


def read_on(
    model: OnnxModel,
    cache: Cache,
    slot: int,
    tokens: Sequence[int],
    *,
    factors: Mapping[str, Any],
    whole: int,
) -> Array:
    """Read tokens behind a slot's sequence; return the logits after the last, (vocabulary,)."""
    cache.reserve(cache.lengths[slot] + len(tokens))
    logits: Array = np.zeros((1, 0), np.float32)
    for start in range(0, len(tokens), PIECE_TOKENS):
        piece = np.array([tokens[start : start + PIECE_TOKENS]], dtype=np.int64)
        last = start + PIECE_TOKENS >= len(tokens)
        made = model.run(
            piece, [cache.lengths[slot]], cache.past(slice(slot, slot + 1)), factors,
            places=[-1] if last else [], whole=whole,
        )  # fmt: skip
        cache.append(slot, made.new, 0, piece.shape[1])
        logits = made.logits
    found: Array = logits[0].copy()
    return found


def row_loss(
    model: OnnxModel,
    ids: Sequence[int],
    labels: Sequence[int],
    factors: Mapping[str, Any],
    front: Piece | None,
) -> Loss:
    """Return the loss of a row, see `edge_agent.inference.contract.Session.loss`."""
    if len(labels) != len(ids):
        raise EngineError(f"a row has {len(ids)} ids and {len(labels)} labels; must be as many.")
    check_ids(ids, model.sizes.vocabulary)
    wanted = [at for at in range(1, len(ids)) if labels[at] != IGNORED]
    check_ids([labels[at] for at in wanted], model.sizes.vocabulary)
    cache = Cache(model.sizes, 1, front)
    whole = cache.front + len(ids)
    pieces = list(_pieces(wanted, model.sizes.vocabulary))
    if len(pieces) > 1:
        cache.reserve(whole)
    total = 0.0
    for start, stop in pieces:
        # Position i tells token i + 1.
        told = [at - 1 - start for at in wanted if start < at <= stop]
        last = stop == pieces[-1][1]
        made = model.run(
            np.array([ids[start:stop]], dtype=np.int64), [cache.lengths[0]],
            cache.past(slice(0, 1)), factors, places=told, whole=whole, keep=not last,
        )  # fmt: skip
        if not last:
            cache.append(0, made.new, 0, stop - start)
        total += _negative_log_likelihood(made.logits, [labels[start + at + 1] for at in told])
    return Loss(total, len(wanted))


def check_ids(ids: Sequence[int], vocabulary: int) -> None:
    """Refuse what is no token: a look-up would take it for another one.

    Raises:
        EngineError: there is one.
    """
    strange = next((one for one in ids if not 0 <= one < vocabulary), None)
    if strange is not None:
        raise EngineError(
            f"{strange} is no token of the base, which has {vocabulary}. Is the tokenizer its own?"
        )


def _pieces(wanted: Sequence[int], vocabulary: int) -> Iterator[tuple[int, int]]:
    """Yield first and last position but one of each piece, up to the last that is wanted."""
    most = max(_LEAST_ROWS, PIECE_LOGITS // vocabulary)
    end = wanted[-1] if wanted else 0
    start = behind = 0
    while start < end:
        stop = min(end, start + PIECE_TOKENS)
        if behind + most < len(wanted):
            # The first position whose logits would be too many.
            stop = min(stop, wanted[behind + most] - 1)
        while behind < len(wanted) and wanted[behind] <= stop:
            behind += 1
        yield start, stop
        start = stop


def _negative_log_likelihood(logits: Array, wanted: Sequence[int]) -> float:
    """Return -Σ log softmax(logits)[wanted]; the logits are overwritten."""
    if len(logits) == 0:
        return 0.0
    right = logits[np.arange(len(logits)), wanted].astype(np.float64)
    most = logits.max(axis=1, keepdims=True)
    logits -= most
    np.exp(logits, out=logits)
    totals = np.log(logits.sum(axis=1, dtype=np.float64)) + most[:, 0]
    return float((totals - right).sum())
