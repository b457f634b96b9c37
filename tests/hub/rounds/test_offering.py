"""What a job announces: to devices once a round, to watchers each phase."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hub.rounds.actions import Announce
from hub.rounds.offering import Offering
from wire.messages import AdapterRef, BaseRef, JobKnobs, ModelShape, RoundAnnounce, RoundPhase
from wire.messages import parse as parsed
from wire.topics import Topics

SHAPE = ModelShape(
    model_type="llama", hidden_size=8, layers=1, mlp_size=8, heads=1, kv_heads=1, head_dim=8,
    vocab_size=9, tied_embeddings=True, parameters=100, weight_bytes=4,
)  # fmt: skip
KNOBS = JobKnobs(method="lora", rank=4, min_rank=4, batch=1, min_batch=1, seq_len=8, min_seq_len=8)
FIRST = "1" * 64


class Broker:
    """Keeps what is published while it is there, as retained messages are."""

    def __init__(self) -> None:
        self.there = True
        self.published: list[RoundAnnounce | RoundPhase] = []

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> bool:
        assert (qos, retain) == (1, True)
        route = Topics("f").parse(topic)
        assert route is not None
        message = parsed(route, payload)
        assert isinstance(message, RoundAnnounce | RoundPhase)
        if self.there:
            self.published.append(message)
        return self.there

    def take(self) -> list[RoundAnnounce | RoundPhase]:
        taken, self.published = self.published, []
        return taken


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def offering(broker: Broker) -> Offering:
    run: Any = SimpleNamespace(
        name="j",
        over=False,
        knobs=KNOBS,
        file=SimpleNamespace(rounds=2),
        base=SimpleNamespace(ref=BaseRef(name="b", digest="d", size_bytes=1, shape=SHAPE)),
        reference=lambda sha256: AdapterRef(sha256=sha256, size_bytes=9),
        broadcast=lambda sha256: None,
        desk=SimpleNamespace(link=broker, topics=Topics("f"), now=lambda: 12.3456789),
    )
    return Offering(run)


def phase(name: Any, **changes: Any) -> Announce:
    given = Announce(round=1, phase=name, adapter=FIRST, deadline_ts=None, reason="")
    return msgspec.structs.replace(given, **changes)


def test_devices_hear_of_a_round_once_and_watchers_of_each_phase(
    offering: Offering, broker: Broker
) -> None:
    for action in (
        phase("open", reason="0 of 2 are there"),
        phase("open"),
        phase("offering", deadline_ts=700.1234567),
        phase("training", deadline_ts=700.1234567),
        phase("training", deadline_ts=700.1234567),
    ):
        offering.announce(action)
    announced, *phases = broker.take()
    assert isinstance(announced, RoundAnnounce)
    assert announced.adapter == AdapterRef(sha256=FIRST, size_bytes=9)
    assert all(isinstance(one, RoundPhase) for one in phases)
    told = [(one.phase, one.reason, one.deadline_ts, one.ts) for one in phases]
    assert told == [
        ("open", "0 of 2 are there", None, 12.346),
        ("open", None, None, 12.346),
        ("offering", None, 700.123, 12.346),
        ("training", None, 700.123, 12.346),
    ]


@pytest.mark.parametrize(
    "news",
    [
        phase("open", round=2),
        phase("open", adapter="2" * 64),
        phase("failed", reason="nobody came"),
        phase("cancelled"),
        phase("done"),
    ],
)
def test_devices_hear_of_a_new_round_a_new_adapter_and_the_end(
    offering: Offering, broker: Broker, news: Announce
) -> None:
    offering.announce(phase("collecting"))
    broker.take()
    offering.announce(news)
    announced = [one for one in broker.take() if isinstance(one, RoundAnnounce)]
    assert [(one.round, one.phase) for one in announced] == [(news.round, news.phase)]
    assert announced[0].reason == (news.reason or None)


def test_both_are_said_again_to_a_broker_that_was_away(offering: Offering, broker: Broker) -> None:
    broker.there = False
    offering.announce(phase("open"))
    broker.there = True
    offering.announce(phase("open"))
    assert len(broker.take()) == 2
    offering.forget()
    offering.announce(phase("open"))
    assert len(broker.take()) == 2
