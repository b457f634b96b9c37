"""Which of the broadcast's topics are subscribed to."""

from edge_agent.hearing import Hearing
from wire.topics import Topics


class Link:
    def __init__(self) -> None:
        self.said: list[str] = []

    def subscribe(self, topic: str, qos: int = 1) -> None:
        self.said.append("+" + topic.removeprefix("lorikeet-data/v1/clinics/job/"))

    def unsubscribe(self, topic: str) -> None:
        self.said.append("-" + topic.removeprefix("lorikeet-data/v1/clinics/job/"))


def test_fewer_slices_are_subscribed_before_the_rest_is_let_go() -> None:
    link = Link()
    hearing = Hearing(link, Topics("clinics"))
    hearing.hear(None)
    hearing.hear(2)
    assert link.said == [
        "++/slice/+",
        "++/slice/lora-0",
        "++/slice/lora-1",
        "++/slice/manifest",
        "++/slice/prompt-0",
        "-+/slice/+",
    ]


def test_nothing_is_said_while_nothing_changes() -> None:
    link = Link()
    hearing = Hearing(link, Topics("clinics"))
    for slices in (1, 1, 2, 2):
        hearing.hear(slices)
    assert link.said[-1] == "++/slice/lora-1"
    assert len(link.said) == 4
