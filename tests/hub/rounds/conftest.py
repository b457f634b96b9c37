"""A job played event by event, with its log beside it."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.rounds import actions, events
from hub.rounds.round import apply, replay, wanted
from hub.rounds.state import JobState
from hub.scheduling.contract import Member
from wire.messages import Evaluation, TrainMetrics


class Play:
    """Feeds events into a job and checks after each that a replay of the log agrees."""

    def __init__(self, rounds: int = 2, **rules: Any) -> None:
        self.now = 0.0
        self.log: list[tuple[float, events.Event]] = []
        self.state = JobState()
        self.send(
            events.Submitted(
                rules=events.RoundRules(job="j", rounds=rounds, **rules), start="start"
            )
        )

    def send(self, event: events.Event, at: float | None = None) -> JobState:
        self.now = self.now if at is None else at
        before = replay(self.log)
        assert before == self.state
        self.log.append((self.now, event))
        was = self.state
        self.state = apply(was, event, self.now)
        assert was == before, "apply changed its argument"
        return self.state

    def member(self, device: str, kind: str = "train", **changes: Any) -> Member:
        values = {
            "device": device,
            "kind": kind,
            "role": "lora" if kind == "train" else "infer",
            "rung": "streamed",
            "rank": 4 if kind == "train" else 0,
            "steps": 10 if kind == "train" else 0,
            "batch": 2,
            "seq_len": 8,
            "codec": "bf16",
        }
        return Member(**{**values, **changes})

    def open(self, *members: str | Member, at: float | None = None, **changes: Any) -> JobState:
        """Open the current round, by default for 100 s with all that train as its minimum."""
        chosen = tuple(self.member(one) if isinstance(one, str) else one for one in members)
        record = self.state.current
        values = {
            "round": record.round,
            "attempt": record.attempt,
            "members": chosen,
            "deadline_s": 100.0,
            "min_updates": sum(one.kind == "train" for one in chosen),
        }
        return self.send(events.Opened(**{**values, **changes}), at)

    def take(self, device: str, at: float | None = None, round_: int | None = None) -> JobState:
        return self.send(events.Taken(round=round_ or self.state.current.round, device=device), at)

    def update(
        self, device: str, at: float | None = None, round_: int | None = None, tokens: int = 100
    ) -> JobState:
        round_ = round_ or self.state.current.round
        train = TrainMetrics(
            steps=10, tokens=tokens, loss_first=3.0, loss_last=2.0, seconds_per_step=0.5
        )
        return self.send(
            events.UpdateAccepted(
                round=round_,
                device=device,
                sha256=f"{device}@{round_}",
                size_bytes=1000,
                train=train,
            ),
            at,
        )

    def evaluated(
        self, device: str, round_: int, at: float | None = None, **losses: tuple[float, int]
    ) -> JobState:
        evaluations = tuple(
            Evaluation(variant=variant, loss=loss, tokens=tokens)
            for variant, (loss, tokens) in losses.items()
        )
        return self.send(events.Evaluated(round=round_, device=device, evaluations=evaluations), at)

    def combine(self, at: float | None = None, **record: float) -> JobState:
        """Combine the round that is aggregating; with a gate its candidate is evaluated next."""
        round_ = self.state.current.round
        return self.send(
            events.Combined(
                round=round_, manifest=f"adapter{round_}", state=f"state{round_}", record=record
            ),
            at,
        )

    def evaluators(self, *devices: str, at: float | None = None, attempt: int = 1) -> JobState:
        """Open the evaluation of the round's candidate by these devices."""
        members = tuple(self.member(one, "evaluate") for one in devices)
        round_ = self.state.current.round
        return self.send(
            events.Opened(round=round_, attempt=attempt, members=members, deadline_s=1.0), at
        )

    def candidate(self, at: float | None = None, **losses: float | tuple[float, int]) -> JobState:
        """Report the candidate's loss on each device's text, on 10 tokens if it isn't said."""
        round_ = self.state.current.round
        for device, given in losses.items():
            loss, tokens = given if isinstance(given, tuple) else (given, 10)
            one = Evaluation(variant="adapter", loss=loss, tokens=tokens)
            self.send(
                events.Evaluated(round=round_, device=device, evaluations=(one,), candidate=True),
                at,
            )
        return self.state

    def trained(self, **losses: float) -> JobState:
        """Let devices measure the adapter that a round begins with, train and deliver."""
        self.open(*losses)
        for device, loss in losses.items():
            self.evaluated(device, self.state.current.round, adapter=(loss, 10))
            self.update(device)
        return self.state

    def publish(self, at: float | None = None) -> JobState:
        """Combine and publish the round that is aggregating."""
        round_ = self.state.current.round
        self.send(events.Combined(round=round_, manifest=f"adapter{round_}"), at)
        return self.send(events.Published(round=round_))

    def clock(self, at: float) -> JobState:
        return self.send(events.Clock(), at)

    def wanted(self, kind: type[Any], at: float | None = None) -> list[Any]:
        now = self.now if at is None else at
        return [action for action in wanted(self.state, now) if isinstance(action, kind)]

    def combining(self) -> list[str]:
        """Return the updates that the hub is to combine now."""
        (combine,) = self.wanted(actions.Combine)
        return [update.sha256 for update in combine.updates]


@pytest.fixture
def play() -> Callable[..., Play]:
    """Return a function that starts a job, of two rounds by default."""
    return Play
