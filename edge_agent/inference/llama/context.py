"""A context of llama.cpp: sequences behind one soft prompt, and passes through the model.

Positions here are the text's: those of the soft prompt, which stand in front of each sequence,
are added where llama.cpp is called. The prompt's keys and values are computed once, in a sequence
of their own, and shared by all others.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from edge_agent.inference.contract import Array
from edge_agent.inference.errors import EngineError
from edge_agent.inference.llama.library import (
    context_settings,
    forget_words,
    last_words,
    use_adapter,
)


class Token(NamedTuple):
    """A token at its place."""

    id: int
    position: int
    sequence: int
    wanted: bool  # whether the logits behind it are


class Context:
    """Sequences, numbered from 0, behind a soft prompt.

    Args:
        lib: of `library`.
        model: to compute with.
        hidden_size: width of its embeddings.
        vocabulary: how many logits there are.
        adapter: llama.cpp's; None for none.
        prompt: embeddings in front of every sequence, (tokens, hidden); None for none.
        sequences: at a time.
        positions: of all sequences together.
        piece: tokens that are computed at a time.
        outputs: of those, positions whose logits are wanted.
        threads: for computing.

    Raises:
        EngineError: there is no room.
    """

    def __init__(
        self,
        lib: Any,
        model: Any,
        *,
        hidden_size: int,
        vocabulary: int,
        adapter: Any,
        prompt: Array | None,
        sequences: int,
        positions: int,
        piece: int,
        outputs: int,
        threads: int,
    ) -> None:
        self.piece = piece
        self.outputs = outputs
        self._lib = lib
        self._hidden_size = hidden_size
        self._vocabulary = vocabulary
        self._prompt = prompt
        self._ahead = 0 if prompt is None else len(prompt)
        self._sequences = sequences
        cells = -(-(positions + self._ahead) // 256) * 256  # llama.cpp's own padding
        settings = context_settings(
            lib,
            cells=cells,
            sequences=sequences + (1 if self._ahead else 0),
            piece=piece,
            outputs=outputs,
            threads=threads,
        )
        forget_words()
        self._context = lib.llama_init_from_model(model, settings)
        if not self._context:
            raise EngineError(
                f"llama.cpp can't make room for {positions} positions.{last_words()} "
                "Take fewer slots, or a shorter context."
            )
        try:
            self._memory = lib.llama_get_memory(self._context)
            if adapter is not None:
                use_adapter(lib, self._context, adapter)
            self.place_prompt()
        except BaseException:
            self.close()
            raise

    def use(self, adapter: Any) -> None:
        """Compute with another adapter; all sequences are empty then."""
        use_adapter(self._lib, self._context, adapter)
        self.place_prompt()

    def place_prompt(self) -> None:
        """Empty all sequences, and compute the soft prompt in front of them."""
        self._lib.llama_memory_clear(self._memory, False)
        if self._prompt is None:
            return
        own = self._sequences
        for first in range(0, self._ahead, self.piece):
            part = np.ascontiguousarray(self._prompt[first : first + self.piece], dtype=np.float32)
            with self._batch(len(part), self._hidden_size) as batch:
                ctypes.memmove(batch.embd, part.ctypes.data, part.nbytes)
                for at in range(len(part)):
                    _place(batch, at, first + at, own, False)
                # Without one, llama.cpp would take the last one to be wanted.
                batch.logits[len(part) - 1] = 1
                self._decode(batch)
        for sequence in range(self._sequences):
            self._lib.llama_memory_seq_cp(self._memory, own, sequence, -1, -1)

    def keep(self, sequence: int, tokens: int) -> None:
        """Forget all but the first tokens of a sequence."""
        if not self._lib.llama_memory_seq_rm(self._memory, sequence, self._ahead + tokens, -1):
            raise EngineError("llama.cpp can't cut a sequence of this model back.")

    def run(self, tokens: Sequence[Token]) -> Array:
        """Compute at most `piece` tokens, of which at most `outputs` are wanted.

        Returns:
            Logits behind those that are wanted, in their order, (wanted, vocabulary). The memory is
            the library's, and holds them until the next call.

        Raises:
            EngineError: the engine fails; the sequences are as they were if the caller cuts them.
        """
        wanted = [at for at, token in enumerate(tokens) if token.wanted]
        with self._batch(len(tokens), 0) as batch:
            for at, token in enumerate(tokens):
                batch.token[at] = token.id
                _place(batch, at, self._ahead + token.position, token.sequence, token.wanted)
            if not wanted:
                batch.logits[len(tokens) - 1] = 1
            self._decode(batch)
        if not wanted:
            return np.empty((0, self._vocabulary), np.float32)
        # They stand one behind the other, in the batch's order.
        first = self._lib.llama_get_logits_ith(self._context, wanted[0])
        if not first:
            raise EngineError("llama.cpp has no logits of this pass.")
        return np.ctypeslib.as_array(first, (len(wanted), self._vocabulary))

    def close(self) -> None:
        """Give up the context; a second time does nothing."""
        if self._context:
            self._lib.llama_free(self._context)
            self._context = None

    @contextmanager
    def _batch(self, tokens: int, width: int) -> Iterator[Any]:
        batch = self._lib.llama_batch_init(tokens, width, 1)
        try:
            batch.n_tokens = tokens
            yield batch
        finally:
            self._lib.llama_batch_free(batch)

    def _decode(self, batch: Any) -> None:
        if not self._context:
            raise EngineError("the session is closed.")
        forget_words()
        code = self._lib.llama_decode(self._context, batch)
        if code:
            why = "there is no room left in the context" if code == 1 else "it fails"
            raise EngineError(f"llama.cpp computed nothing: {why} (code {code}).{last_words()}")


def _place(batch: Any, at: int, position: int, sequence: int, wanted: bool) -> None:
    batch.pos[at] = position
    batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
    batch.logits[at] = 1 if wanted else 0
