"""Error feedback: what a biased codec left out of one update is added to the next.

Stich et al. 2018, *Sparsified SGD with Memory* (arXiv 1809.07599, algorithm 1); Karimireddy et al.
2019, *Error Feedback Fixes SignSGD* (arXiv 1901.09847). With the memory e, a task's own move δ and
C what the hub makes of the bytes,

    u = δ + e,    send C(u),    e' = u − C(u)

so that all that was sent, and e', add up to all that was meant. e' takes the place of e once the
hub has accepted C(u) (`edge_agent.training.residuals`).

A soft prompt is a vector in a basis that stays, as weights of the base are, and so is its memory.
LoRA's factors are not: the hub turns them in each round. Their memory is the product that is
lacking, turned towards the factors of the next start (`edge_agent.training.reproject`). Where a
rule trains one factor alone,
what the memory would have moved the other one by is sent in no part, and so stays in the memory.
Cores have none.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import AgentError
from edge_agent.training.reproject import Product, difference, reproject
from edge_agent.training.residuals import Facts, Residual, Residuals
from edge_agent.training.start import Start, leading
from wire.errors import WireError

log = logging.getLogger(__name__)

Array = NDArray[np.float32]

#: A memory is brought along for so many rounds; then too much has changed without the device.
MOST_ROUNDS = 10
#: A move in which an honest optimiser could have gone so many times as far is cut to that length.
#: The hub refuses updates of ten times as far (`lr` for each step, entry by entry), and the task's
#: own move comes on top.
REACHES = 4.0
_A, _B = ".lora_A", ".lora_B"
_LEFT, _RIGHT = ".left", ".right"
#: No failure of these costs a task more than its memory.
_TROUBLE = (OSError, ValueError, KeyError, WireError, AgentError, np.linalg.LinAlgError)


class ErrorFeedback:
    """The memory of one task.

    Args:
        folder: of the job's residuals.
        facts: of the task.
        accepted: the device's last task in this job whose update the hub accepted; may be empty.
        start: what the task starts from.
        reach: how far an entry may honestly move, as a root mean square: ``lr`` for each step.
    """

    def __init__(
        self, folder: Path, facts: Facts, accepted: str, start: Start, reach: float
    ) -> None:
        self._residuals = Residuals(folder)
        self._facts = facts
        self._start = start
        self._most_rms = REACHES * reach
        self._memory: Residual | None = None
        try:
            self._memory = self._residuals.begin(accepted)
            self._drop_stale()
        except _TROUBLE as error:
            self._give_up(error)

    def added(self, update: Mapping[str, Array]) -> dict[str, Array]:
        """Return the task's own moves and what was left out before.

        Args:
            update: float32 by names on the wire: ``lora_A`` and ``lora_B`` of each target, or one
                of the two, or the prompt, or weights.
        """
        try:
            return {**update, **dict(self._moves(update))}
        except _TROUBLE as error:
            self._give_up(error)
            return dict(update)

    def keep(self, wanted: Mapping[str, Array], sent: Callable[[str], Array]) -> None:
        """Put down what an update leaves out, for the case that the hub accepts it.

        What an earlier one left out of other tensors is put down again.

        Args:
            wanted: the moves that were packed.
            sent: returns a move as the hub expands it, by name.
        """
        try:
            roots = _roots(wanted)
            others = self._others(roots)
            shapes = {name: shape for name, shape in self._known().items() if name in others}
            for name in roots:
                shapes |= self._shapes(name, wanted)
            tensors = chain(map(self._get, others), self._left_out(roots, wanted, sent))
            self._residuals.put(self._facts, shapes, tensors)
        except _TROUBLE as error:
            self._give_up(error)

    def _drop_stale(self) -> None:
        if self._memory is None:
            return
        age = self._facts.round - self._memory.facts.round
        if not 0 <= age <= MOST_ROUNDS:
            log.info("a residual is dropped: it is %d rounds old", age)
            self._memory = None

    def _give_up(self, error: Exception) -> None:
        log.warning("the job's residual is dropped: %s", error)
        self._memory = None
        self._residuals.forget()

    def _moves(self, update: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        """Yield each tensor that the memory says something of, with that added."""
        for name in _roots(update):
            for part, move in self._remembered(name, update).items():
                if part in update:
                    yield part, update[part] + move

    def _remembered(self, name: str, update: Mapping[str, Array]) -> dict[str, Array]:
        """Return the memory of a target or of a vector as moves; nothing if it doesn't fit.

        Those of a target are of both factors, whichever are trained.
        """
        known = self._known()
        if name in update:
            fits = known.get(name) == update[name].shape
            return {name: _cut(self._get(name), self._most_rms)} if fits else {}
        out, width = self._start.shapes[name]
        left, right = known.get(name + _LEFT, ()), known.get(name + _RIGHT, ())
        if left[:1] != (out,) or right[1:] != (width,) or left[1:] != right[:1]:
            return {}
        residual = Product(self._get(name + _LEFT), self._get(name + _RIGHT))
        moved_b, moved_a = reproject(residual, *self._factors(name, _rank(name, update)))
        moves = {name + _A: moved_a, name + _B: moved_b}
        return {part: _cut(move, self._most_rms) for part, move in moves.items()}

    def _known(self) -> dict[str, tuple[int, ...]]:
        return {} if self._memory is None else self._memory.shapes

    def _get(self, name: str) -> Array:
        if self._memory is None:
            raise KeyError(name)
        return self._memory.get(name)

    def _others(self, roots: list[str]) -> list[str]:
        """Return what the memory holds of tensors that this task doesn't train."""
        return [
            name
            for name in self._known()
            if name.removesuffix(_LEFT).removesuffix(_RIGHT) not in roots
        ]

    def _left_out(
        self, roots: list[str], wanted: Mapping[str, Array], sent: Callable[[str], Array]
    ) -> Iterator[Array]:
        """Yield what is put down of this task, in the order of `_shapes`."""
        for name in roots:
            if name in wanted:
                yield wanted[name] - sent(name)
                continue
            up, down = name + _B, name + _A
            b, a = self._factors(name, _rank(name, wanted))
            waiting = {} if up in wanted and down in wanted else self._remembered(name, wanted)
            nothing = {up: np.zeros_like(b), down: np.zeros_like(a)}
            meant = nothing | waiting | {part: wanted[part] for part in nothing if part in wanted}
            made = nothing | {part: sent(part) for part in nothing if part in wanted}
            yield from difference(b, a, (meant[up], meant[down]), (made[up], made[down]))

    def _shapes(self, name: str, wanted: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what is put down of a target or of a vector."""
        if name in wanted:
            return {name: wanted[name].shape}
        (out, width), rank = self._start.shapes[name], _rank(name, wanted)
        return {name + _LEFT: (out, 2 * rank), name + _RIGHT: (2 * rank, width)}

    def _factors(self, target: str, rank: int) -> tuple[Array, Array]:
        return leading(self._start, target + _B, rank), leading(self._start, target + _A, rank)


def _roots(update: Mapping[str, Array]) -> list[str]:
    """Return the targets, and the names of vectors: a prompt, or weights."""
    found = {name.removesuffix(_A).removesuffix(_B) for name in update}
    return sorted(found)


def _rank(name: str, update: Mapping[str, Array]) -> int:
    """Return a target's rank from whichever factor is there."""
    down, up = update.get(name + _A), update.get(name + _B)
    if down is not None:
        return int(down.shape[0])
    if up is not None:
        return int(up.shape[1])
    raise KeyError(name)


def _cut(move: Array, most_rms: float) -> Array:
    rms = float(np.sqrt(np.mean(np.square(move, dtype=np.float64)))) if move.size else 0.0
    return move if rms <= most_rms else move * np.float32(most_rms / rms)
