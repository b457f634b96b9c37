"""The slots of one session: which answers are in them, and what of earlier ones is used again."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_agent.inference.contract import Array, Session
from edge_agent.inference.errors import EngineError
from edge_agent.serving.generation import Begun, Broke, Generation
from edge_agent.worker import describe

log = logging.getLogger(__name__)

#: What is told of an error that is not known.
FAILED = "the engine failed; the server's log says where."


@dataclass
class _Slot:
    """One sequence.

    Attributes:
        held: tokens that are in it.
        running: the answer that is under way there.
        used_at: turn in which it was used last.
    """

    held: list[int] = field(default_factory=list)
    running: Generation | None = None
    used_at: int = 0


class Slots:
    """A session's sequences.

    Args:
        session: whose they are.
        adapter: the name of its adapter.
        piece: tokens of questions that are taken in one turn, so that a long one stalls nobody.
    """

    def __init__(self, session: Session, adapter: str, piece: int) -> None:
        self.session = session
        self.adapter = adapter
        self._piece = piece
        self._slots = [_Slot() for _ in range(session.slots)]
        self._turn = 0

    @property
    def busy(self) -> int:
        """How many answers are under way."""
        return sum(slot.running is not None for slot in self._slots)

    @property
    def free(self) -> bool:
        """Whether there is room for another answer."""
        return self.busy < len(self._slots)

    def begin(self, generation: Generation) -> None:
        """Put an answer into the free slot that holds most of its question already."""
        ids = generation.request.ids
        free = [at for at, slot in enumerate(self._slots) if slot.running is None]
        best = max(
            free, key=lambda at: (_common(self._slots[at].held, ids), -self._slots[at].used_at)
        )
        slot = self._slots[best]
        # The last token is always computed: the answer is drawn from its logits.
        kept = min(_common(slot.held, ids), len(ids) - 1)
        try:
            self.session.keep(best, kept)
        except EngineError:  # a model whose state can't be cut back
            kept = 0
            self.session.keep(best, 0)
        del slot.held[kept:]
        generation.fed = generation.reused = kept
        slot.running = generation
        generation.told.put(Begun(self.adapter))

    def turn(self) -> None:
        """Take all answers one step further: those under way by a token, questions by a piece."""
        self._turn += 1
        feed: dict[int, list[int]] = {}
        left = self._piece
        # Of questions, the one that was fed longest ago.
        for at, slot in sorted(enumerate(self._slots), key=lambda one: one[1].used_at):
            if slot.running is None:
                continue
            if slot.running.cancelled.is_set():
                slot.running = None
                continue
            wanted = slot.running.waiting(left)
            if wanted:
                feed[at] = wanted
                left -= len(wanted) if not slot.running.answer else 0
        if feed:
            self._compute(feed)

    def _compute(self, feed: dict[int, list[int]]) -> None:
        try:
            found = self.session.feed(feed)
        except EngineError as error:
            self._break(feed, str(error))
            return
        except Exception as error:
            # The thread must live: nobody else answers. An unknown error could quote the text.
            log.error("a pass failed: %s", describe(error))
            self._break(feed, FAILED)
            return
        for at, tokens in feed.items():
            slot = self._slots[at]
            slot.held += tokens
            slot.used_at = self._turn
            running = slot.running
            if running is None:
                continue
            running.fed += len(tokens)
            room = self.session.context - len(slot.held)
            if running.whole_fed and self._take(running, found[at], room):
                slot.running = None

    @staticmethod
    def _take(running: Generation, logits: Array, room: int) -> bool:
        try:
            return running.take(logits, room)
        except (ValueError, FloatingPointError):
            # Its message could quote the text.
            running.told.put(Broke("no token could be drawn: the model's logits are no numbers."))
            return True
        except Exception as error:  # the other answers go on
            log.error("an answer failed: %s", describe(error))
            running.told.put(Broke(FAILED))
            return True

    def stop(self, message: str) -> None:
        """End all answers with an error."""
        self._break({at: [] for at in range(len(self._slots))}, message)

    def _break(self, slots: dict[int, list[int]], message: str) -> None:
        for at in slots:
            running = self._slots[at].running
            if running is not None:
                running.told.put(Broke(message))
                self._slots[at].running = None


def _common(held: Sequence[int], ids: Sequence[int]) -> int:
    """Return how many first tokens two sequences share."""
    for at, (one, other) in enumerate(zip(held, ids, strict=False)):
        if one != other:
            return at
    return min(len(held), len(ids))
