"""One answer on its way: what was asked, what came of it, and who waits for it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Literal

from edge_agent.inference.contract import Array
from edge_agent.serving.sampling import USUAL, Sampler, Sampling
from edge_agent.serving.text_stream import TextStream

Reason = Literal["stop", "length"]


@dataclass(frozen=True)
class Begun:
    """The answer has begun, by an adapter."""

    adapter: str


@dataclass(frozen=True)
class Piece:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True)
class Ended:
    """The answer is whole.

    Attributes:
        reason: ``stop`` at the model's own end or a stop string, ``length`` for want of room.
        asked: tokens of the question.
        reused: of those, how many were there already.
        answered: tokens of the answer.
    """

    reason: Reason
    asked: int
    reused: int
    answered: int


@dataclass(frozen=True)
class Broke:
    """The answer ends here, for an error that is no fault of the question."""

    message: str


Told = Begun | Piece | Ended | Broke


@dataclass(frozen=True)
class Request:
    """What is asked of the model.

    Attributes:
        ids: tokens of the question, at least one.
        most: tokens of the answer, at least one.
        ends: tokens that end it.
        stops: strings that end it.
        sampling: how it is drawn.
    """

    ids: Sequence[int]
    most: int
    ends: frozenset[int]
    stops: tuple[str, ...] = ()
    sampling: Sampling = USUAL


@dataclass
class Generation:
    """A request under way; the thread that asked reads `told`, the engine's thread writes it.

    Attributes:
        request: what was asked.
        told: what came of it; `Ended` or `Broke` comes last.
        cancelled: set when nobody waits for it any more.
        fed: tokens that are in the slot, the question's first.
    """

    request: Request
    text_of: Callable[[Sequence[int]], str]
    told: "SimpleQueue[Told]" = field(default_factory=SimpleQueue)
    cancelled: threading.Event = field(default_factory=threading.Event)
    fed: int = 0
    reused: int = 0
    answer: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sampler = Sampler(self.request.sampling)
        self._text = TextStream(self.text_of, self.request.stops)

    @property
    def whole_fed(self) -> bool:
        """Whether the question, and what there is of the answer, are in the slot."""
        return self.fed == len(self.request.ids) + len(self.answer)

    def waiting(self, most: int) -> list[int]:
        """Return the tokens that the engine takes next: of the question at most so many."""
        asked = len(self.request.ids)
        if self.fed < asked:
            return list(self.request.ids[self.fed : self.fed + most])
        return self.answer[self.fed - asked :]

    def take(self, logits: Array, room: int) -> bool:
        """Draw a token and tell what it says; return whether the answer is whole.

        Args:
            logits: behind the last token, (vocabulary,).
            room: positions that are left in the slot.
        """
        token = self._sampler.draw(logits)
        if token in self.request.ends:
            return self._end("stop")
        self.answer.append(token)
        piece = self._text.add(token)
        if piece:
            self.told.put(Piece(piece))
        if self._text.stopped:
            return self._end("stop")
        if len(self.answer) >= self.request.most or room < 1:
            return self._end("length")
        return False

    def _end(self, reason: Reason) -> bool:
        rest = self._text.end()
        if rest:
            self.told.put(Piece(rest))
        if self._text.stopped:
            reason = "stop"
        self.told.put(Ended(reason, len(self.request.ids), self.reused, len(self.answer)))
        return True
