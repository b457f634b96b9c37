"""What can go wrong at the hub; one class for each thing a caller does differently."""


class HubError(Exception):
    """The hub can't do it. The message says what, which value, what to do."""


class ConfigError(HubError):
    """A file or an option that the user wrote can't be used: exit 2.

    Args:
        path: the key, like ``lora.rank``; empty when the whole file is meant.
        value: what stands there.
        allowed: what may stand there.
        message: the whole sentence, where "path is value; allowed is ..." isn't enough.
    """

    def __init__(
        self, path: str, value: object, allowed: str, *, message: str | None = None
    ) -> None:
        super().__init__(message or f"{path} is {shown(value)}; allowed is {allowed}.")
        self.path = path
        self.value = value
        self.allowed = allowed


class ModelError(ConfigError):
    """The base model's folder or id can't be used: exit 2."""

    def __init__(self, base: str, message: str) -> None:
        super().__init__("model.base", base, "a Hugging Face folder or id", message=message)


class NotFoundError(HubError):
    """The hub knows no such job, device or blob."""


class ConflictError(HubError):
    """It can't be done in the present state, such as a second job of the same name."""


class UnreachableError(HubError):
    """No hub answers at the address that the command line was given."""


def shown(value: object) -> str:
    """Return a value as YAML users know it, cut to a readable length."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
