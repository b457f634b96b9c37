"""What a device may do in a round: one role a file, found there by its ``ROLE``."""

import importlib
import pkgutil
from functools import cache

from edge_agent.roles.contract import Role


@cache
def catalogue() -> dict[str, Role]:
    """Return every role of this folder by its name."""
    found: dict[str, Role] = {}
    for module in pkgutil.iter_modules(__path__, __name__ + "."):
        role = getattr(importlib.import_module(module.name), "ROLE", None)
        if role is not None:
            found[role.name] = role
    return found
