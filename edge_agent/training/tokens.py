"""Text to rows of token ids, and rows in a seeded order.

Text without a prompt is joined and cut into full rows, with the end-of-text token between pieces,
so that no step is spent on padding. An example with a prompt has a row of its own; its loss is
taken on the response only.
"""

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_agent.errors import DataError
from edge_agent.training.data import Example
from edge_agent.training.tokenizer import Tokenizer
from wire.labels import IGNORED

#: How many lengths there are of batches, at most.
_LENGTHS = 4
#: Share of padding up to which all batches have one length.
_MOST_FILLED = 0.2


@dataclass(frozen=True)
class Row:
    """One sequence: at most ``seq_len`` token ids, and as many labels."""

    ids: "array[int]"
    labels: "array[int]"

    @property
    def targets(self) -> int:
        """How many positions a loss is taken on; the first is never predicted."""
        return sum(label != IGNORED for label in self.labels[1:])


class Encoder:
    """A tokenizer's rules: chat template if it has one, special tokens where it sets them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        begin, end = tokenizer.bos_id, tokenizer.eos_id
        self._start = [begin] if begin is not None and tokenizer.adds_bos else []
        self._end = [] if end is None else [end]

    def rows(self, examples: Sequence[Example], seq_len: int) -> list[Row]:
        """Return the examples as rows, in their order; a last piece of joined text may be short.

        Args:
            examples: as drawn.
            seq_len: the longest row, in tokens, at least 2.

        Raises:
            DataError: no row has a token to predict.
        """
        rows: list[Row] = []
        joined = array("i")
        for example in examples:
            if example.prompt is None:
                joined.extend(self._start + self._tokenizer.ids(example.text) + self._end)
            else:
                rows.append(self._answer(example.prompt, example.text, seq_len))
            while len(joined) >= seq_len:
                piece, joined = joined[:seq_len], joined[seq_len:]
                rows.append(Row(piece, piece))
        rows.append(Row(joined, joined))
        usable = [row for row in rows if row.targets]
        if examples and not usable:
            raise DataError(
                f"none of {len(examples)} examples has a token to learn within {seq_len} tokens. "
                "Raise local.seq_len, or shorten the prompts."
            )
        return usable

    def release(self) -> None:
        """Give back the memory of the vocabulary; the next `rows` reads it again."""
        self._tokenizer.release()

    def _answer(self, prompt: str, response: str, seq_len: int) -> Row:
        ids_of = self._tokenizer.ids
        chat = self._chat(prompt, response)
        if chat is not None:
            question, answer = ids_of(chat[0]), ids_of(chat[1])
        else:
            question = self._start + ids_of(prompt + "\n")
            answer = ids_of(response) + self._end
        ids = (question + answer)[:seq_len]
        labels = ([IGNORED] * len(question) + answer)[:seq_len]
        return Row(array("i", ids), array("i", labels))

    def _chat(self, prompt: str, response: str) -> tuple[str, str] | None:
        """Return what the model sees before it answers, and the answer as the template ends it.

        Returns:
            None where there is no template.
        """
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        asked = self._tokenizer.chat(turns[:1], add_generation_prompt=True)
        whole = self._tokenizer.chat(turns, add_generation_prompt=False)
        if asked is None or whole is None:
            return None
        if whole.startswith(asked):
            return asked, whole[len(asked) :]
        return asked, response + (self._tokenizer.eos_token or "")


def drawn_rows(rows: Sequence[Row], batch: int, steps: int, seed: int) -> Iterator[list[Row]]:
    """Yield one batch a step: every row once before any comes again, in an order the seed fixes.

    Yields:
        ``batch`` rows; all of them where there are fewer.
    """
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    size = min(batch, len(rows))
    waiting: list[Row] = []
    for _ in range(steps):
        while len(waiting) < size:
            waiting += rng.sample(rows, len(rows))
        yield waiting[:size]
        del waiting[:size]


def row_lengths(rows: Sequence[Row]) -> list[int]:
    """Return the lengths that batches are filled up to, rising.

    Only the longest row's where little would be filled up, as in joined text; else its quarters.
    Each length has kernels of its own, which the libraries compile and keep, and tensors of its
    own sizes, which fragment the heap: rows as they came took up to 80 MB more [measured].
    """
    sizes = [len(row.ids) for row in rows]
    longest = max(sizes, default=0)
    if sum(sizes) >= (1 - _MOST_FILLED) * longest * len(sizes):
        return [longest]
    return [-(-longest * part // _LENGTHS) for part in range(1, _LENGTHS + 1)]
