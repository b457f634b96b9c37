"""The rules, found by looking into this folder: each file defines `RULE`."""

import importlib
import pkgutil
from functools import cache
from typing import Any

from hub.aggregation.contract import AggregationError, FactorRule, ProductRule


@cache
def _found() -> dict[str, Any]:
    modules = pkgutil.iter_modules(__path__, __name__ + ".")
    rules = [importlib.import_module(module.name).RULE for module in modules]
    return {rule.name: rule for rule in sorted(rules, key=lambda rule: str(rule.name))}


def product_rules() -> dict[str, ProductRule]:
    """Return the rules for low-rank products, by name."""
    return {name: rule for name, rule in _found().items() if rule.space == "product"}


def factor_rules() -> dict[str, FactorRule]:
    """Return the rules for vectors in a common basis, by name."""
    return {name: rule for name, rule in _found().items() if rule.space == "factor"}


def keeps_basis(rule: ProductRule) -> bool:
    """Return whether each entry of what is trained means the same in every round.

    Where both factors are trained it doesn't, even if nobody turns them: only their product counts.
    """
    return all(rule.basis(round_) == "same" and rule.trains(round_) == "b" for round_ in (1, 2))


def orders(rule: ProductRule) -> bool:
    """Return whether a round ever puts components in order of importance.

    Where none does, the leading ones say little without the others, and an adapter comes whole.
    """
    return any(rule.basis(round_) != "same" for round_ in (1, 2))


def product_rule(name: str) -> ProductRule:
    """Return the rule for low-rank products that has this name.

    Raises:
        AggregationError: there is none.
    """
    known = product_rules()
    if name not in known:
        raise AggregationError(f"rule is {name!r}; known for LoRA: {', '.join(known)}.")
    return known[name]


def factor_rule(name: str) -> FactorRule:
    """Return the rule for vectors that has this name.

    Raises:
        AggregationError: there is none.
    """
    known = factor_rules()
    if name not in known:
        raise AggregationError(f"rule is {name!r}; known for soft prompts: {', '.join(known)}.")
    return known[name]
