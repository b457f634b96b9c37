"""Tokens are drawn with the probabilities that the settings say."""

from collections import Counter

import numpy as np
import pytest

from edge_agent.serving.sampling import Sampler, Sampling

#: Probabilities 0.5, 0.25, 0.15, 0.1.
LOGITS = np.log(np.array([0.15, 0.5, 0.1, 0.25], np.float32))


def _drawn(sampling: Sampling, times: int = 4000) -> dict[int, float]:
    sampler = Sampler(sampling)
    counts = Counter(sampler.draw(LOGITS) for _ in range(times))
    return {token: count / times for token, count in sorted(counts.items())}


def test_at_temperature_0_the_greatest_is_taken() -> None:
    assert _drawn(Sampling(temperature=0), 5) == {1: 1.0}


def test_tokens_come_as_often_as_they_should() -> None:
    found = _drawn(Sampling(seed=1))
    assert found == pytest.approx({0: 0.15, 1: 0.5, 2: 0.1, 3: 0.25}, abs=0.03)


def test_temperature_sharpens() -> None:
    """At 0.5 probabilities are squared: 0.25, 0.0625, 0.0225, 0.01, of 0.345."""
    found = _drawn(Sampling(temperature=0.5, seed=1))
    assert found[1] == pytest.approx(0.725, abs=0.03)
    assert found[2] == pytest.approx(0.029, abs=0.02)


@pytest.mark.parametrize(("top_p", "kept"), [(0.4, {1}), (0.6, {1, 3}), (0.8, {0, 1, 3})])
def test_top_p_leaves_the_unlikely_out(top_p: float, kept: set[int]) -> None:
    found = _drawn(Sampling(top_p=top_p, seed=1))
    assert set(found) == kept
    if kept == {1, 3}:
        assert found[1] == pytest.approx(2 / 3, abs=0.03)


def test_a_seed_fixes_what_is_drawn() -> None:
    first, second = Sampler(Sampling(seed=5)), Sampler(Sampling(seed=5))
    assert [first.draw(LOGITS) for _ in range(50)] == [second.draw(LOGITS) for _ in range(50)]
    other = Sampler(Sampling(seed=6))
    assert [first.draw(LOGITS) for _ in range(50)] != [other.draw(LOGITS) for _ in range(50)]
