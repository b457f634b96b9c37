"""What can go wrong on a device; one class for each thing a caller does differently."""


class AgentError(Exception):
    """The agent can't go on. The message says what, which value, what to do."""


class UsageError(AgentError):
    """An option or a file the user named can't be used: exit 2."""


class RefusedError(AgentError):
    """The hub doesn't want this session: exit 1."""


class StoppedError(AgentError):
    """The user told it to stop before it had begun: no failure, exit 0."""


class DataError(AgentError):
    """No usable text. Never carries the text itself."""


class ModelError(AgentError):
    """The base model's folder can't be used."""


class AdapterError(AgentError):
    """The global adapter doesn't fit the base or its manifest."""


class DifferenceError(AdapterError):
    """An adapter could not be made of an older one and differences."""
