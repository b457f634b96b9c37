"""Scores that make SentencePiece's BPE merge as a list of merges does.

SentencePiece joins the two neighbours whose union scores best; a list of merges, the two that
stand first in it. Kudo and Richardson 2018, arXiv 1808.06226.
"""

from collections.abc import Sequence

from wire.split_rules import merges_of


def scores_of(
    tokens: Sequence[str | None], merges: Sequence[tuple[str, str]]
) -> list[float] | None:
    """Return a score for each token, or None if no scores mean what the merges say.

    They do if the merges are every way to cut each token in two that both are tokens, and those of
    one token stand together.

    Args:
        tokens: by id; None for those that are never made by a merge (control tokens, bytes).
        merges: the best first.
    """
    ranks: dict[str, int] = {}
    last = ""
    for left, right in merges:
        whole = left + right
        if whole != last and whole in ranks:
            return None
        ranks.setdefault(whole, len(ranks))
        last = whole
    known = [token for token in tokens if token is not None]
    expected = {tuple(pair.split(" ")) for pair in merges_of(known)}
    if expected != set(merges) or len(merges) != len(expected):
        return None
    # Tokens that nothing makes come last; no pair can ask for their score.
    lowest = -float(len(ranks))
    return [lowest if one is None or one not in ranks else -float(ranks[one]) for one in tokens]
