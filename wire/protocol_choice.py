"""Which version of MQTT to speak: 5 where the broker has it, 3.1.1 otherwise.

Brokers without MQTT 5 show it in three ways: a CONNACK that says so, a connection that is closed
at CONNECT, and silence (amqtt takes MQTT 5's properties for the length of a string, and waits for
its bytes). So the next version is tried at once, and what was accepted is remembered.
"""

from collections.abc import Sequence

from wire.broker_profile import Version

#: A broker that was settled on and then leaves so many attempts unanswered may be another one.
_FORGET_AFTER = 3


class ProtocolChoice:
    """The state of that choice.

    Args:
        versions: to try, the better one first.
    """

    def __init__(self, versions: Sequence[Version]) -> None:
        self._versions = list(versions)
        self._at = 0
        self._settled = False
        self._missed = 0

    @property
    def version(self) -> Version:
        """What to speak at the next attempt."""
        return self._versions[self._at]

    @property
    def settled(self) -> bool:
        """Whether the broker accepted this version."""
        return self._settled

    def accepted(self) -> None:
        """Remember what the broker took."""
        self._settled = True
        self._missed = 0

    def unanswered(self, *, refused: bool = False) -> bool:
        """Return whether to try again at once, with the next version.

        Args:
            refused: the broker said that it doesn't speak this version; otherwise it only
                hung up or was silent, which a broker that is starting does, too.
        """
        if self._settled and not refused:
            self._missed += 1
            if self._missed >= _FORGET_AFTER:
                self._settled = False
                self._at = self._missed = 0
            return False
        self._settled = False
        self._at = (self._at + 1) % len(self._versions)
        return self._at != 0
