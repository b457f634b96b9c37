"""Splits a data set over devices: alike, by holder, unlike in labels, unlike in size.

Every function is pure: the same arguments give the same parts. Every example is in exactly one
part; each part is a rising array of example indices, int64.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.errors import HubError

Parts = list[NDArray[np.int64]]

#: From nearly one label a device to nearly the same mixture on all; beyond, numbers run out.
LEAST_ALPHA, MOST_ALPHA = 1e-6, 1e9


class PartitionError(HubError):
    """A split makes no sense: more devices than examples, or a concentration out of range."""


def by_holder(holders: Sequence[str], devices: int | None = None) -> Parts:
    """Return parts that keep each holder's examples together (an institute, a person).

    Args:
        holders: of each example.
        devices: None for one a holder, in the order of their names. Else the largest holders are
            dealt out first, each to the device with the fewest examples so far (Graham, 1969,
            SIAM J. Appl. Math. 17, rule LPT).

    Raises:
        PartitionError: more devices than holders, or none.
    """
    found: dict[str, list[int]] = {}
    for index, holder in enumerate(holders):
        found.setdefault(holder, []).append(index)
    names = sorted(found)
    if devices is None:
        return [_rising(found[name]) for name in names]
    _check(devices, len(names), "holders")
    held: list[list[int]] = [[] for _ in range(devices)]
    for name in sorted(names, key=lambda one: -len(found[one])):
        min(held, key=len).extend(found[name])
    return [_rising(part) for part in held]


def by_label(labels: Sequence[Hashable], devices: int, alpha: float, seed: int) -> Parts:
    """Return parts of equal size whose labels are mixed unlike.

    Hsu, Qi and Brown, 2019, arXiv 1909.06335, section 3: a device draws its mixture q from
    Dirichlet(α p), with p the labels' shares of the whole, and then its examples one by one from q,
    without putting back. A small α gives each device one label, a great one gives all the same
    mixture. Labels that are used up leave the others in their proportions. The devices draw in
    turn, so that no one is left with what the others did not want.

    Args:
        labels: of each example.
        devices: how many parts.
        alpha: α, the concentration.
        seed: another one gives other mixtures and other examples.

    Raises:
        PartitionError: more devices than examples, or an α out of range.
    """
    _check(devices, len(labels), "examples")
    _check_alpha(alpha)
    rng = np.random.default_rng(seed)
    pools = _pools(labels, rng)
    left = np.array([len(pool) for pool in pools], dtype=np.float64)  # (labels,)
    mixtures = rng.dirichlet(np.maximum(alpha * left / left.sum(), 1e-300), size=devices)
    held: list[list[int]] = [[] for _ in range(devices)]
    for turn in range(len(labels)):
        device = turn % devices
        chances = np.where(left > 0, mixtures[device], 0.0)
        if not chances.sum() > 0:  # all that it wants is used up
            chances = left
        edges = np.cumsum(chances)
        label = int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
        held[device].append(pools[label].pop())
        left[label] -= 1
    return [_rising(part) for part in held]


def by_length(
    lengths: Sequence[int], devices: int, alpha: float, seed: int, classes: int = 10
) -> Parts:
    """Return parts of equal size whose examples are unlike in length: `by_label` of quantiles.

    Args:
        lengths: of each example, in any unit.
        devices, alpha, seed: as for `by_label`.
        classes: quantiles of length, which take the place of labels.

    Raises:
        PartitionError: as `by_label`, or no classes.
    """
    return by_label(length_classes(lengths, classes), devices, alpha, seed)


def length_classes(lengths: Sequence[int], classes: int = 10) -> list[int]:
    """Return the quantile that each example's length is in, from 0; equal lengths share one.

    Raises:
        PartitionError: fewer than one class.
    """
    if classes < 1:
        raise PartitionError(f"classes is {classes}; at least 1 is needed.")
    if not len(lengths):
        return []
    values = np.asarray(lengths, dtype=np.float64)
    inner = np.quantile(values, np.arange(1, classes) / classes)
    return [int(place) for place in np.searchsorted(inner, values, side="right")]


def by_quantity(examples: int, devices: int, alpha: float, seed: int, least: int = 1) -> Parts:
    """Return parts that are alike but for their size.

    The shares are drawn from Dirichlet(α, ..., α): a small α gives one device nearly everything, a
    great one gives all the same (Li, Diao, Chen and He, 2022, arXiv 2102.02079, quantity skew).

    Args:
        examples: how many there are.
        devices: how many parts.
        alpha: α, the concentration.
        seed: another one gives other sizes and other examples.
        least: examples that each device has in any case, 1 or more.

    Raises:
        PartitionError: fewer examples than that, or an α out of range.
    """
    _check(devices, examples // least, "examples" if least == 1 else f"times {least} examples")
    _check_alpha(alpha)
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(devices, alpha))  # (devices,)
    # What each has in any case; what is left by shares, the largest remainders first.
    exact = shares * (examples - devices * least)
    sizes = np.floor(exact).astype(np.int64)
    missing = examples - devices * least - int(sizes.sum())
    sizes[np.argsort(sizes - exact, kind="stable")[:missing]] += 1
    edges = np.cumsum(sizes + least)[:-1]
    return [np.sort(part) for part in np.split(rng.permutation(examples), edges)]


def label_counts(parts: Parts, labels: Sequence[Hashable]) -> NDArray[np.int64]:
    """Return how many examples of each label each device has.

    Args:
        parts: of one of the functions above.
        labels: of each example.

    Returns:
        (devices, labels), the labels in the order of `label_names`.
    """
    place = {name: index for index, name in enumerate(label_names(labels))}
    found = np.zeros((len(parts), len(place)), dtype=np.int64)
    for device, part in enumerate(parts):
        for index in part:
            found[device, place[labels[index]]] += 1
    return found


def label_names(labels: Sequence[Hashable]) -> list[Any]:
    """Return the labels there are, in order: numbers by value, everything else by its words."""
    numbers = all(isinstance(one, (int, float)) for one in labels)
    return sorted(set(labels), key=None if numbers else str)


def _pools(labels: Sequence[Hashable], rng: np.random.Generator) -> list[list[int]]:
    """Return the examples of each label, in random order."""
    place = {name: index for index, name in enumerate(label_names(labels))}
    pools: list[list[int]] = [[] for _ in place]
    for index in rng.permutation(len(labels)):
        pools[place[labels[index]]].append(int(index))
    return pools


def _rising(indices: Sequence[int]) -> NDArray[np.int64]:
    return np.sort(np.array(indices, dtype=np.int64))


def _check(devices: int, most: int, of: str) -> None:
    if not 1 <= devices <= most:
        raise PartitionError(
            f"devices is {devices}; must be from 1 to the number of {of} ({most})."
        )


def _check_alpha(alpha: float) -> None:
    if not LEAST_ALPHA <= alpha <= MOST_ALPHA:
        raise PartitionError(f"alpha is {alpha}; must be from {LEAST_ALPHA:g} to {MOST_ALPHA:g}.")
