"""How a command ends: one line for an error, and the exit code that scripts rely on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edge_agent.errors import AgentError, DataError, ModelError, UsageError
from wire.errors import BrokerSettingsError, MalformedError, WireError


@contextmanager
def exit_codes() -> Iterator[None]:
    """Say an error on standard error and exit: 1 for what failed, 2 for usage."""
    try:
        yield
    except (UsageError, DataError, ModelError, MalformedError, BrokerSettingsError) as error:
        sys.stderr.write(f"lorikeet-agent: {error}\n")
        sys.exit(2)
    except (AgentError, WireError) as error:
        sys.stderr.write(f"lorikeet-agent: {error}\n")
        sys.exit(1)
