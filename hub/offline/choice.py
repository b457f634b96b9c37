"""Which rule and which rank an outcome may have, when folders alone are combined."""

from collections.abc import Sequence
from pathlib import Path

from hub.aggregation.contract import ProductRule
from hub.aggregation.rules import product_rules
from hub.errors import ConfigError, HubError
from hub.offline.lora_folder import LoraFolder
from hub.yaml_file import one_of


def offline_rule(name: str) -> ProductRule:
    """Return a rule that needs nothing but whole adapters.

    Raises:
        ConfigError: there is no such rule.
    """
    known = {rule.name: rule for rule in product_rules().values() if _whole(rule)}
    if name not in known:
        raise ConfigError("--rule", name, one_of(known))
    return known[name]


def _whole(rule: ProductRule) -> bool:
    """Whether a rule combines adapters that share neither A nor directions."""
    return {rule.trains(round_) for round_ in (1, 2)} == {"both"}


def outcome_rank(folders: Sequence[Path], rule: ProductRule, asked: int | None) -> int:
    """Return the rank of the outcome: what was asked for, or else the adapters' highest.

    Raises:
        ConfigError: it is less than the highest, and the rule can't truncate.
        MalformedError: a folder isn't a plain LoRA adapter.
        HubError: one can't be read.
    """
    if asked is not None and rule.basis(1) != "same":
        return asked
    try:
        highest = max(LoraFolder(folder).rank for folder in folders)
        if asked is not None and asked < highest:
            message = (
                f"--rank is {asked}; {rule.name} averages the factors, whose order says nothing of "
                f"their weight, so it keeps the adapters' highest rank, {highest}. Use stack_svd."
            )
            raise ConfigError("--rank", asked, f"{highest} or more", message=message)
        return asked or highest
    except OSError as error:
        raise HubError(f"{error.filename}: {error.strerror or error}.") from error
