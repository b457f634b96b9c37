"""What can go wrong while a model trains, besides the errors of data, model and adapter."""

from edge_agent.errors import AgentError


class OutOfMemoryError(AgentError):
    """An allocation failed: a smaller rung may do."""


class DivergedError(AgentError):
    """The loss is not a number any more; a smaller learning rate may do."""


class PausedError(AgentError):
    """The supervisor asked for a pause. No fault: the task can be resumed."""

    def __init__(self, step: int) -> None:
        super().__init__(f"paused after step {step}.")
        self.step = step


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is torch's or Python's way to say that memory is short.

    torch's CPU allocator has no exception class of its own; its message is the only sign.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
