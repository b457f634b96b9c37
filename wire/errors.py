"""What can go wrong between hub and agent; one class for each thing a caller does differently."""


class WireError(Exception):
    """Bytes, a message or a link that can't be used: what, which value, what to do."""


class MalformedError(WireError):
    """Bytes from the network that fail a check: the sender is told, the bytes are dropped."""


class TooLargeError(MalformedError):
    """More bytes than agreed: dropped before they are parsed."""


class LinkError(WireError):
    """The broker can't be reached or refuses us: retried by the caller."""


class BrokerSettingsError(LinkError):
    """Settings with which nobody can connect to a broker: the user must write others.

    Args:
        field: of `wire.broker_settings.BrokerSettings`: ``url``, ``ca_file``, ...
        message: what, which value, what to do.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
