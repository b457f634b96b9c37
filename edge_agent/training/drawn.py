"""The rows that a task trains on, and those that it is measured on."""

import sys
from collections.abc import Sequence

from edge_agent.training.cleaning import USUAL
from edge_agent.training.data import Part, draw
from edge_agent.training.measuring import MAX_TOKENS
from edge_agent.training.tokens import Encoder, Row
from wire.messages import LocalWork
from wire.work import Cleaning

#: How much text is drawn for each token that is needed; more than tokenizers put into one.
_CHARACTERS_PER_TOKEN = 5
#: However long the task: the text and its tokens must not weigh on the planner's sum.
_MAX_CHARACTERS = 2_000_000
#: The held-out choice is the same in every round, or losses could not be compared.
_HELD_OUT_SEED = 0


def training_rows(
    encoder: Encoder,
    data: Sequence[str],
    work: LocalWork,
    cleaning: Cleaning = USUAL,
    *,
    hold_out: bool = True,
) -> list[Row]:
    """Return about as many rows as a task needs, drawn by its seed.

    Args:
        encoder: of the base.
        data: files or folders.
        work: how much is needed.
        cleaning: what is left out.
        hold_out: whether the held-out tenth is left out, too.

    Raises:
        DataError: there is nothing to train on.
    """
    tokens = work.steps * work.batch * work.seq_len
    characters = min(tokens * _CHARACTERS_PER_TOKEN, _MAX_CHARACTERS)
    part: Part = "train" if hold_out else "all"
    return encoder.rows(draw(data, part, characters, work.seed, cleaning), work.seq_len)


def held_out_rows(
    encoder: Encoder, data: Sequence[str], seq_len: int, cleaning: Cleaning = USUAL
) -> list[Row]:
    """Return rows of the held-out tenth, always the same; none if there is no text in it.

    Raises:
        DataError: the data can't be used.
    """
    characters = MAX_TOKENS * _CHARACTERS_PER_TOKEN
    return encoder.rows(draw(data, "held_out", characters, _HELD_OUT_SEED, cleaning), seq_len)


def all_rows(
    encoder: Encoder, data: Sequence[str], seq_len: int, cleaning: Cleaning = USUAL
) -> list[Row]:
    """Return the rows of all text, in an order that is always the same.

    Raises:
        DataError: the data can't be used, or there is none.
    """
    return encoder.rows(draw(data, "all", sys.maxsize, _HELD_OUT_SEED, cleaning), seq_len)
