"""The loss of rows, each computed by itself, in pieces, so that logits stay small."""

from collections.abc import Sequence

import numpy as np

from edge_agent.inference.contract import Array
from edge_agent.inference.errors import EngineError
from edge_agent.inference.llama.context import Context, Token
from edge_agent.loss import Loss
from wire.labels import IGNORED

#: Logits that are held at a time.
_LOGITS = 4 * 1024 * 1024


def outputs_of(vocabulary: int, piece: int) -> int:
    """Return of how many positions logits are wanted at a time.

    Args:
        vocabulary: logits of a position.
        piece: tokens that are computed at a time.
    """
    return max(1, min(piece, _LOGITS // vocabulary))


def row_loss(context: Context, ids: Sequence[int], labels: Sequence[int]) -> Loss:
    """Return the loss of one row, computed in sequence 0, which is empty before and after.

    Args:
        context: with room for the row.
        ids: of tokens.
        labels: as many; no loss is taken where one is `IGNORED`, nor on the first.

    Raises:
        EngineError: the engine fails.
    """
    if len(ids) != len(labels):
        raise EngineError(f"a row has {len(ids)} ids and {len(labels)} labels.")
    last = max((at for at in range(1, len(ids)) if labels[at] != IGNORED), default=0)
    total, count = 0.0, 0
    try:
        for piece in _pieces(context, ids, labels, last):
            logits = context.run(piece)
            targets = [labels[token.position + 1] for token in piece if token.wanted]
            total += _cross_entropy(logits, targets)
            count += len(targets)
    finally:
        context.keep(0, 0)
    return Loss(total, count)


def _pieces(
    context: Context, ids: Sequence[int], labels: Sequence[int], last: int
) -> list[list[Token]]:
    """Return the tokens that are computed at a time; what stands behind the last label isn't."""
    pieces: list[list[Token]] = [[]]
    wanted = 0
    for at in range(last):
        one = Token(ids[at], at, 0, labels[at + 1] != IGNORED)
        if len(pieces[-1]) == context.piece or (one.wanted and wanted == context.outputs):
            pieces.append([])
            wanted = 0
        pieces[-1].append(one)
        wanted += one.wanted
    return [piece for piece in pieces if piece]


def _cross_entropy(logits: Array, targets: Sequence[int]) -> float:
    """Return the sum of -log softmax at the targets; logits (positions, vocabulary)."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        greatest = float(row.max())
        spread = np.exp(row - np.float32(greatest)).sum(dtype=np.float64)
        total += greatest + float(np.log(spread)) - float(row[target])
    return total
