"""A model that answers: text in, pieces of text out, whoever asks.

No question and no answer is logged, or kept longer than its tokens stay in their slot.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_agent.errors import AgentError
from edge_agent.inference.contract import Adapter, Engine
from edge_agent.serving.generation import Generation, Request
from edge_agent.serving.prompts import chat_ids, end_ids, text_ids
from edge_agent.serving.sampling import USUAL, Sampling
from edge_agent.serving.scheduler import Scheduler
from edge_agent.training.tokenizer import Tokenizer


class QuestionError(AgentError):
    """A question that the model can't take."""


@dataclass(frozen=True)
class Wish:
    """What a caller wants of an answer.

    Attributes:
        most: tokens; None for as many as there is room for.
        stops: strings that end it.
        sampling: how it is drawn.
    """

    most: int | None = None
    stops: tuple[str, ...] = ()
    sampling: Sampling = USUAL


class Service:
    """A base, its tokenizer, and the adapter that is on it now.

    Args:
        engine: with the base.
        tokenizer: of the base.
        scheduler: computes the answers.
        name: of the model, for callers.
        slots: answers at a time.
        context: tokens of a question with its answer.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        scheduler: Scheduler,
        *,
        name: str,
        slots: int,
        context: int,
    ) -> None:
        self.engine = engine
        self.name = name
        self.context = context
        self.scheduler = scheduler
        self.swaps = -1  # the first adapter takes no other's place
        self._slots = slots
        self.tokenizer = tokenizer
        self._tokenizing = threading.Lock()
        self._ends = end_ids(tokenizer)

    def use(self, adapter: Adapter | None) -> None:
        """Let the next questions be answered with an adapter, None for the bare base.

        What is under way ends with the one that it began with. Any thread may ask, one at a time.

        Raises:
            EngineError: the adapter doesn't fit; the one before stays.
        """
        session = self.engine.open(adapter, slots=self._slots, context=self.context)
        self.scheduler.switch(session, "base" if adapter is None else adapter.name)
        self.swaps += 1

    def chat(self, turns: Sequence[Mapping[str, str]], wish: Wish) -> Generation:
        """Begin the answer to a conversation.

        Raises:
            QuestionError: there is nothing to answer, or no room for an answer.
            FullError: too many wait already.
            ModelError: the chat template fails on it.
        """
        with self._tokenizing:
            ids = chat_ids(self.tokenizer, turns)
        return self._begin(ids, wish)

    def complete(self, text: str | Sequence[int], wish: Wish) -> Generation:
        """Begin the continuation of a text, or of token ids.

        Raises:
            QuestionError, FullError: as `chat`.
        """
        if not isinstance(text, str):
            if not all(0 <= one < self.engine.vocabulary for one in text):
                raise QuestionError(
                    f"a token of the prompt isn't in the vocabulary of {self.engine.vocabulary}."
                )
            return self._begin(list(text), wish)
        with self._tokenizing:
            ids = text_ids(self.tokenizer, text)
        return self._begin(ids, wish)

    def close(self) -> None:
        """End all answers, and give up the model."""
        self.scheduler.close()
        self.engine.close()

    def _begin(self, ids: Sequence[int], wish: Wish) -> Generation:
        if not ids:
            raise QuestionError("the prompt is empty; give at least one token.")
        room = self.context - len(ids)
        if room < 1:
            raise QuestionError(
                f"the prompt has {len(ids)} tokens; the context has {self.context}, and an answer "
                "needs room in it. Shorten the prompt, or start with a larger --context."
            )
        most = room if wish.most is None else min(room, wish.most)
        request = Request(ids, most, self._ends, wish.stops, wish.sampling)
        generation = Generation(request, self._text)
        self.scheduler.submit(generation)
        return generation

    def _text(self, ids: Sequence[int]) -> str:
        with self._tokenizing:
            return self.tokenizer.text(ids)
