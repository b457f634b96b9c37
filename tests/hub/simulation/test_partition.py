"""Splits over devices: each example once, fixed by the seed, and right in their extremes."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.simulation.partition import (
    LEAST_ALPHA,
    MOST_ALPHA,
    PartitionError,
    Parts,
    by_holder,
    by_label,
    by_length,
    by_quantity,
    label_counts,
    label_names,
    length_classes,
)

#: 300 a, 200 b, 100 c, mixed.
LABELS = ["a", "b", "a", "c", "b", "a"] * 100

Split = Callable[[int, float, int], Parts]
SPLITS: dict[str, Split] = {
    "label": lambda devices, alpha, seed: by_label(LABELS, devices, alpha, seed),
    "length": lambda devices, alpha, seed: by_length(range(600), devices, alpha, seed),
    "quantity": lambda devices, alpha, seed: by_quantity(600, devices, alpha, seed),
}
every = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)


def covers(parts: Parts, examples: int) -> bool:
    """Whether each example is in one part, and only there; and each part rises."""
    rising = all((np.diff(part) > 0).all() for part in parts)
    return rising and sorted(np.concatenate(parts).tolist()) == list(range(examples))


@every
@given(
    devices=st.integers(1, 50),
    alpha=st.floats(LEAST_ALPHA, MOST_ALPHA),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_example_is_in_exactly_one_part(
    split: Split, devices: int, alpha: float, seed: int
) -> None:
    parts = split(devices, alpha, seed)
    assert len(parts) == devices
    assert covers(parts, 600)
    assert all(len(part) for part in parts)


@every
def test_the_seed_fixes_the_parts(split: Split) -> None:
    first, again, other = (split(5, 0.5, seed) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("devices", [1, 7, 600])
def test_parts_by_label_are_of_equal_size(devices: int) -> None:
    sizes = {len(part) for part in by_label(LABELS, devices, 0.1, 1)}
    assert max(sizes) - min(sizes) <= 1


def test_a_great_alpha_gives_all_the_mixture_of_the_whole() -> None:
    counts = label_counts(by_label(LABELS, 4, MOST_ALPHA, 1), LABELS)
    # Of 150: 75 a, 50 b, 25 c, each ± 6 by the draw; three and a half standard deviations.
    assert np.abs(counts - [75, 50, 25]).max() <= 21
    assert counts.sum(0).tolist() == [300, 200, 100]


def test_a_small_alpha_gives_each_device_one_label_while_there_is_some() -> None:
    labels = ["a"] * 1000 + ["b"] * 1000
    found = set()
    for seed in range(20):
        counts = label_counts(by_label(labels, 2, LEAST_ALPHA, seed), labels)
        found.add(tuple(sorted(counts[0].tolist())))
        assert counts.sum(0).tolist() == counts.sum(1).tolist() == [1000, 1000]
    # Two devices that want different labels get them whole; two that want the same one share it,
    # draw by draw, and then the other one.
    assert found == {(0, 1000), (500, 500)}


def test_mixtures_grow_alike_as_alpha_grows() -> None:
    """Mean largest share over devices: falls as alpha grows, down to the most frequent label's."""

    def purity(alpha: float) -> float:
        counts = label_counts(by_label(LABELS, 6, alpha, 1), LABELS)
        return float((counts.max(1) / counts.sum(1)).mean())

    found = [purity(alpha) for alpha in (0.01, 1.0, 100.0)]
    assert found[0] > found[1] > found[2] - 0.05
    assert found[2] == pytest.approx(0.5, abs=0.12)


def test_by_length_groups_what_is_alike_in_length() -> None:
    lengths = list(range(1000))
    spread = [float(np.std(part)) for part in by_length(lengths, 4, MOST_ALPHA, 1)]
    # Of all numbers below 1,000: 1000 / √12.
    assert np.mean(spread) == pytest.approx(288.7, rel=0.1)
    narrow = [float(np.std(part)) for part in by_length(lengths, 4, 0.01, 1)]
    assert np.mean(narrow) < 0.9 * np.mean(spread)


def test_quantiles_of_length_by_hand() -> None:
    assert length_classes([10, 20, 30, 40], 2) == [0, 0, 1, 1]  # the median is 25
    assert length_classes([5, 5, 5, 9], 4) == [2, 2, 2, 3]  # quartiles 5, 5 and 6
    assert length_classes([], 3) == []
    assert length_classes([1, 2, 3], 1) == [0, 0, 0]


def test_a_great_alpha_makes_equal_quantities() -> None:
    assert {len(part) for part in by_quantity(600, 5, MOST_ALPHA, 3)} <= {119, 120, 121}


def test_a_small_alpha_gives_one_device_all_that_the_others_need_not_have() -> None:
    assert sorted(len(part) for part in by_quantity(600, 5, LEAST_ALPHA, 3)) == [1, 1, 1, 1, 596]


def test_holders_keep_their_examples() -> None:
    parts = by_holder(["b", "a", "b", "c", "a", "b"])
    assert [part.tolist() for part in parts] == [[1, 4], [0, 2, 5], [3]]  # a, b, c


def test_holders_are_dealt_to_whoever_has_least() -> None:
    # Sizes 5, 4, 3, 3, 3 on two devices: 5 | 0, 5 | 4, 5 | 7, 8 | 7, 8 | 10.
    holders = [
        name for name, size in zip("vwxyz", (5, 4, 3, 3, 3), strict=True) for _ in range(size)
    ]
    parts = by_holder(holders, 2)
    assert [len(part) for part in parts] == [8, 10]
    assert covers(parts, 18)
    assert [{holders[index] for index in part} for part in parts] == [{"v", "y"}, {"w", "x", "z"}]


def test_counts_by_hand() -> None:
    parts = [np.array([0, 1, 3]), np.array([2])]
    assert label_counts(parts, ["b", "a", "b", "b"]).tolist() == [[1, 2], [0, 1]]
    assert label_names([10, 9, 10]) == [9, 10]
    assert label_names(["10", "9"]) == ["10", "9"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: by_label(LABELS, 0, 1.0, 1), "devices is 0; must be from 1 to the number of"),
        (lambda: by_label(LABELS, 601, 1.0, 1), r"number of examples \(600\)"),
        (lambda: by_label(LABELS, 2, 0.0, 1), "alpha is 0.0; must be from 1e-06 to 1e"),
        (lambda: by_label(LABELS, 2, float("nan"), 1), "alpha is nan"),
        (lambda: by_quantity(3, 4, 1.0, 1), r"number of examples \(3\)"),
        (lambda: by_quantity(3, 2, -1.0, 1), "alpha is -1.0"),
        (lambda: by_holder(["a", "a"], 2), r"number of holders \(1\)"),
        (lambda: by_length([1, 2], 1, 1.0, 1, classes=0), "classes is 0; at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Parts], said: str) -> None:
    with pytest.raises(PartitionError, match=said):
        make()


def test_the_arguments_are_left_as_they_are() -> None:
    labels, holders = list(LABELS), ["a", "b", "a"]
    by_label(labels, 3, 0.5, 1)
    by_holder(holders, 2)
    assert (labels, holders) == (LABELS, ["a", "b", "a"])
