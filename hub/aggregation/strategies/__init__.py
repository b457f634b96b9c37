"""The strategies, found by looking into this folder: each file defines `STRATEGY`."""

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

from hub.aggregation.contract import AggregationError, Strategy


@cache
def _found() -> tuple[Any, ...]:
    modules = pkgutil.iter_modules(__path__, __name__ + ".")
    found = [importlib.import_module(module.name).STRATEGY for module in modules]
    return tuple(sorted(found, key=lambda strategy: str(strategy.name)))


def catalogue() -> dict[str, Strategy]:
    """Return every strategy with its defaults, by name."""
    return {strategy.name: strategy for strategy in _found()}


def by_name(name: str) -> Strategy:
    """Return the strategy of this name, with its defaults.

    Raises:
        AggregationError: there is none.
    """
    known = catalogue()
    if name not in known:
        raise AggregationError(f"strategy is {name!r}; known: {', '.join(known)}.")
    return known[name]


def defaults(name: str) -> dict[str, float]:
    """Return what can be set of a strategy, and what stands there otherwise."""
    strategy: Any = by_name(name)
    return {field.name: getattr(strategy, field.name) for field in fields(strategy)}


def configured(name: str, settings: Mapping[str, float]) -> Strategy:
    """Return a strategy that is set otherwise.

    Args:
        name: of the strategy.
        settings: values by their names; see `defaults`.

    Raises:
        AggregationError: there is no such strategy.
        TypeError: it has no such setting.
    """
    strategy: Any = by_name(name)
    found: Strategy = replace(strategy, **settings)
    return found
