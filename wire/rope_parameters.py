"""Rotary position embeddings as ``config.json`` describes them, in one form."""

from collections.abc import Mapping
from typing import Any


def rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters in today's form: older files have ``rope_theta``, ``rope_scaling``.

    Args:
        config: the parsed ``config.json``.

    Returns:
        ``rope_type``, ``rope_theta`` and ``partial_rotary_factor`` always, others as the type has.
    """
    found = dict(config.get("rope_scaling") or {}) | dict(config.get("rope_parameters") or {})
    kind = found.get("rope_type") or found.get("type") or "default"
    found["rope_type"] = {"su": "longrope"}.get(str(kind), str(kind))
    default = 1e6 if config["model_type"] in ("mixtral",) else 1e4
    found.setdefault("rope_theta", config.get("rope_theta", default))
    found.setdefault("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    return found
