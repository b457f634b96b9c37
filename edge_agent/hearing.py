"""To which of the broadcast's topics a device listens: to all, or to the slices that it takes."""

from typing import Protocol

from wire.topics import Topics


class Subscriber(Protocol):
    """What of a link is used."""

    def subscribe(self, topic: str, qos: int = 1) -> None: ...

    def unsubscribe(self, topic: str) -> None: ...


class Hearing:
    """The subscriptions to slices, kept as few as the device needs.

    Args:
        link: subscribes.
        topics: spells the topics.
    """

    def __init__(self, link: Subscriber, topics: Topics) -> None:
        self._link = link
        self._topics = topics
        self._heard: set[str] = set()

    def hear(self, slices: int | None) -> None:
        """Listen to manifests, prompts and so many slices; None: to all there are."""
        if slices is None:
            wanted = {self._topics.slice_chunk()}
        else:
            names = ["manifest", "prompt-0", *(f"lora-{index}" for index in range(slices))]
            wanted = {self._topics.slice_chunk(name=name) for name in names}
        for topic in sorted(wanted - self._heard):  # the new ones first: nothing is missed
            self._link.subscribe(topic)
        for topic in sorted(self._heard - wanted):
            self._link.unsubscribe(topic)
        self._heard = wanted
