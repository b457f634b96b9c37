"""Does an adapter fit its base?"""

from collections.abc import Mapping
from typing import Any

from hub.offline.lora_folder import LoraFolder
from wire.errors import MalformedError
from wire.shape import target_modules


def checked_targets(factors: LoraFolder, config: Mapping[str, Any]) -> None:
    """Refuse an adapter of anything but linear layers of the base.

    llama.cpp passes over a norm's without a word, and would serve another model.

    Args:
        factors: the adapter.
        config: the base's ``config.json``.

    Raises:
        MalformedError: the message names the layer.
    """
    known = target_modules(config)
    for target, shape in factors.shapes.items():
        if target not in known:
            raise MalformedError(
                f"{factors.path} changes {target[:200]}, which is no linear layer of the base's "
                "blocks; only those can be exported."
            )
        if known[target] != shape:
            raise MalformedError(
                f"{factors.path} has factors of {target} for {shape[0]} outputs and {shape[1]} "
                f"inputs; the base has {known[target][0]} and {known[target][1]}. Name the base "
                "that it was trained on."
            )
