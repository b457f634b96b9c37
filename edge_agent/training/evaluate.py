"""Losses on text that the device holds out from training."""

import math
from collections.abc import Callable, Sequence

from edge_agent.errors import AdapterError
from edge_agent.loss import Loss
from edge_agent.training.batches import padded
from edge_agent.training.contract import Placed
from edge_agent.training.measuring import MAX_TOKENS, VARIANTS, capped
from edge_agent.training.share import ALONE, Share, share_of
from edge_agent.training.tokens import Row, row_lengths
from wire.messages import Evaluation

#: Rows at a time: it changes no loss, only memory. The planner counts on it.
MAX_ROWS = 4


def evaluate(
    placed: Placed,
    rows: Sequence[Row],
    variants: Sequence[str],
    batch: int,
    on_variant: Callable[[int], None],
    *,
    tokens: int = MAX_TOKENS,
    share: Share = ALONE,
) -> list[Evaluation]:
    """Return the mean loss per token of each variant, all over the same tokens.

    A variant whose loss isn't finite is left out.

    Args:
        placed: the adapter in the model.
        rows: held-out ones; without any there is nothing to tell, and the list is empty.
        variants: of `VARIANTS`.
        batch: rows at a time, at most `MAX_ROWS` are taken.
        on_variant: told how many variants are done.
        tokens: after so many predicted ones no more rows are taken.
        share: what this process does of the rows; the others must make the same call.

    Raises:
        AdapterError: an unknown variant.
    """
    chosen = capped(rows, tokens)
    found: list[Evaluation] = []
    for variant in variants if chosen else ():
        with share.together():
            mine = _loss(placed, chosen, variant, min(batch, MAX_ROWS), share)
        total, counted = share.sums(mine)
        loss = Loss(total, int(counted))
        mean = loss.total / loss.tokens
        if math.isfinite(mean):  # JSON has no NaN, and nothing can be averaged with one
            found.append(Evaluation(variant=variant, loss=mean, tokens=loss.tokens))
        on_variant(len(found))
    return found


def _loss(placed: Placed, rows: Sequence[Row], variant: str, batch: int, share: Share) -> Loss:
    if variant not in VARIANTS:
        raise AdapterError(
            f"variant is {variant!r}; known here are {', '.join(VARIANTS)}. Update the agent."
        )
    total, tokens, lengths = 0.0, 0, row_lengths(rows)
    for at in range(0, len(rows), batch * share.count):
        ids, labels = padded(rows[at : at + batch * share.count], lengths)
        loss = placed.evaluate_loss(*share_of(share, ids, labels), variant)
        total, tokens = total + loss.total, tokens + loss.tokens
    return Loss(total, tokens)
