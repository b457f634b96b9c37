"""What goes wrong with engines; imported where no engine is, and no numpy."""

from edge_agent.errors import AgentError


class EngineError(AgentError):
    """An engine isn't installed, refuses a file, or fails; the message says what to do."""
