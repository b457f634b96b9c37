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
    known = product_rules()
    if name not in known:
        raise ConfigError("--rule", name, one_of(known))
    return known[name]


def outcome_rank(folders: Sequence[Path], asked: int | None) -> int:
    """Return the rank of the outcome: what was asked for, or else the adapters' highest.

    Raises:
        MalformedError: a folder isn't a plain LoRA adapter.
        HubError: one can't be read.
    """
    if asked is not None:
        return asked
    try:
        return max(LoraFolder(folder).rank for folder in folders)
    except OSError as error:
        raise HubError(f"{error.filename}: {error.strerror or error}.") from error
