"""What a block of a known family computes, in the errors that training has."""

from collections.abc import Mapping
from typing import Any

from edge_agent.errors import ModelError
from wire import block_spec
from wire.block_spec import Spec
from wire.errors import MalformedError

__all__ = ["Spec", "spec_of"]


def spec_of(config: Mapping[str, Any]) -> Spec:
    """Return the spec of a model of a known family (`wire.block_spec.spec_of`).

    Raises:
        ModelError: something in it isn't known here.
    """
    try:
        return block_spec.spec_of(config)
    except MalformedError as error:
        raise ModelError(str(error)) from error
