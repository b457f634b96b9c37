"""Small layers and updates for the rules' tests."""

import numpy as np
from numpy.typing import NDArray

from hub.aggregation.contract import Factors, FactorsUpdate

Array64 = NDArray[np.float64]


def factors(a: object, b: object) -> Factors:
    return Factors(np.array(a, np.float32), np.array(b, np.float32))


def product(one: Factors) -> Array64:
    whole: Array64 = one.b.astype(np.float64) @ one.a.astype(np.float64)
    return whole


def random_layer(rng: np.random.Generator, rank: int, out: int, width: int) -> Factors:
    """Return a published adapter: orthonormal rows, falling columns."""
    q, _ = np.linalg.qr(rng.standard_normal((width, rank)))
    b = rng.standard_normal((out, rank)) * (2.0 ** -np.arange(rank))
    return Factors(q.T.astype(np.float32), b.astype(np.float32))


def random_update(
    rng: np.random.Generator, rank: int, out: int, width: int, trains: str = "both"
) -> FactorsUpdate:
    """Return a change of as many components, of the factors that are trained."""
    a = 0.3 * rng.standard_normal((rank, width)) * (trains != "b")
    b = 0.3 * rng.standard_normal((out, rank)) * (trains != "a")
    return FactorsUpdate(
        float(rng.uniform(0.1, 5)), Factors(a.astype(np.float32), b.astype(np.float32))
    )


def moved(current: Factors, update: FactorsUpdate) -> Factors:
    """Return the device's own leading components behind its training."""
    r = update.delta.rank
    own = current.leading(r)
    return Factors(own.a + update.delta.a, own.b + update.delta.b)


def relative(got: Array64, wanted: Array64) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))
