"""The next token, drawn from logits.

Nucleus sampling: Holtzman et al. 2020, arXiv 1904.09751.
"""

from dataclasses import dataclass

import numpy as np

from edge_agent.inference.contract import Array


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: logits are divided by it; 0 takes the greatest.
        top_p: only the fewest tokens are drawn from whose probabilities come to so much.
        seed: fixes what is drawn; None for another answer each time.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None


#: As OpenAI's interface has it.
USUAL = Sampling()


class Sampler:
    """Draws the tokens of one answer."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._rng = np.random.default_rng(sampling.seed)

    def draw(self, logits: Array) -> int:
        """Return a token.

        Args:
            logits: behind the last token, (vocabulary,).
        """
        if self._sampling.temperature <= 0:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / self._sampling.temperature
        weights = np.exp(scaled - scaled.max())
        weights /= weights.sum()
        if self._sampling.top_p >= 1:
            return int(self._rng.choice(len(weights), p=weights))
        order = np.argsort(-weights, kind="stable")
        sums = np.cumsum(weights[order])
        kept = order[: int(np.searchsorted(sums, self._sampling.top_p)) + 1]
        return int(self._rng.choice(kept, p=weights[kept] / weights[kept].sum()))
