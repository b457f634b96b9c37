"""Turning factors towards others."""

import numpy as np
import pytest

from hub.aggregation.alignment import aligned
from hub.aggregation.contract import Factors


def drawn(seed: int, rank: int = 3, out: int = 7, width: int = 5) -> Factors:
    rng = np.random.default_rng(seed)
    a = np.linalg.qr(rng.standard_normal((width, rank)))[0].T
    return Factors(a.astype(np.float32), rng.standard_normal((out, rank)).astype(np.float32))


def turned(factors: Factors, seed: int) -> Factors:
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((factors.rank, factors.rank)))[0]
    return Factors((q @ factors.a).astype(np.float32), (factors.b @ q.T).astype(np.float32))


def test_the_product_stays_as_it_was() -> None:
    new, old = drawn(1), drawn(2)
    found = aligned(new, old, [new.rank])
    assert np.allclose(found.b @ found.a, new.b @ new.a, atol=1e-5)
    assert np.allclose(found.a @ found.a.T, np.eye(3), atol=1e-5)


def test_a_basis_that_was_only_turned_is_turned_back() -> None:
    old = drawn(3)
    found = aligned(turned(old, 4), old, [3])
    assert np.allclose(found.a, old.a, atol=1e-5)
    assert np.allclose(found.b, old.b, atol=1e-5)


def test_two_components_that_changed_places_change_back() -> None:
    # By hand: the rows (1, 0) and (0, 1) were exchanged, and B's columns with them.
    old = Factors(np.eye(2, dtype=np.float32), np.array([[2, 0], [0, 1]], np.float32))
    new = Factors(old.a[::-1].copy(), old.b[:, ::-1].copy())
    found = aligned(new, old, [new.rank])
    assert found.a == pytest.approx(old.a)
    assert found.b == pytest.approx(old.b)


def test_no_other_turn_is_nearer() -> None:
    new, old = drawn(5), drawn(6)
    weight = float(np.square(new.b).sum()) / 3

    def distance(factors: Factors) -> float:
        at_a = float(np.square(factors.a - old.a).sum())
        return weight * at_a + float(np.square(factors.b - old.b).sum())

    found = distance(aligned(new, old, [new.rank]))
    assert all(found <= distance(turned(new, seed)) + 1e-4 for seed in range(50))


def test_the_first_rounds_old_b_is_zero() -> None:
    new = drawn(7)
    found = aligned(new, Factors(new.a, np.zeros_like(new.b)), [3])
    assert np.allclose(found.a, new.a, atol=1e-5)


def test_each_band_turns_by_itself() -> None:
    old, new = drawn(8), drawn(9)
    found = aligned(new, old, [1, 2])
    # What the leading component makes of the product is its own, and so is the rest's.
    for first, stop in ((0, 1), (1, 3)):
        meant = new.b[:, first:stop] @ new.a[first:stop]
        assert np.allclose(found.b[:, first:stop] @ found.a[first:stop], meant, atol=1e-5)


def test_components_that_changed_places_between_bands_keep_their_order() -> None:
    old = Factors(np.eye(2, dtype=np.float32), np.array([[2, 0], [0, 1]], np.float32))
    new = Factors(old.a[::-1].copy(), old.b[:, ::-1].copy())
    found = aligned(new, old, [1, 1])
    assert np.abs(found.a) == pytest.approx(np.abs(new.a))
