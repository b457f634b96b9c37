"""Whatever happens in whatever order: nothing blocks, nothing is lost, nothing counts twice."""

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hub.rounds import actions, events
from hub.rounds.queries import needed_updates, verdict
from hub.rounds.round import apply, replay, wanted
from hub.rounds.state import JobState
from hub.scheduling.contract import Member
from wire.messages import Evaluation, TrainMetrics

ROUNDS = 5
DEVICES = [*"abcd", "stranger"]
devices = st.sampled_from(DEVICES)
rounds = st.integers(0, ROUNDS + 2)
losses = st.sampled_from([1.0, 1.005, 1.5, 2.0])
gates = st.sampled_from(
    [
        None,
        events.Gate(metric="heldout_loss", max_regression=0.01),
        events.Gate(metric="worst_tenth", max_regression=0.01),
        events.Gate(metric="validation_loss", max_regression=0.01),
    ]
)
stops = st.sampled_from(
    [None, None, events.Until(metric="heldout_loss", patience=2, min_delta=0.1)]
)


def member(device: str, kind: str) -> Member:
    return Member(
        device=device,
        kind="train" if kind == "train" else "evaluate",
        role="lora",
        rung="streamed",
        rank=2,
        steps=3,
        batch=1,
        seq_len=8,
        codec="raw",
    )


def places(state: JobState) -> list[tuple[str, int]]:
    """Return (device, round) of every update that a state holds, wherever it stands."""
    found = list(state.late.values())
    for record in state.records:
        found += [*record.accepted.values(), *record.stale.values(), *record.superseded]
    return [(update.device, update.round) for update in found]


class Job(RuleBasedStateMachine):
    """Devices and the hub behave at random; then the devices fall silent and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.log: list[tuple[float, events.Event]] = []
        self.state = JobState()
        self.accepted: set[tuple[str, int]] = set()

    def send(self, event: events.Event) -> None:
        if isinstance(event, events.UpdateAccepted):
            counts = verdict(self.state, event.device, event.round, self.now).counts
            key = (event.device, event.round)
            if counts in ("fresh", "stale"):
                assert key not in self.accepted, "it would count twice"
                self.accepted.add(key)
        before = places(self.state)
        self.log.append((self.now, event))
        self.state = apply(self.state, event, self.now)
        if isinstance(event, events.CombineFailed):
            # A spoiled update is the only one that may go; its device may send another.
            gone = Counter(before) - Counter(places(self.state))
            assert sum(gone.values()) <= 1
            self.accepted -= set(gone)

    @initialize(max_staleness=st.integers(1, 4), gate=gates, until=stops)
    def submit(
        self, max_staleness: int, gate: events.Gate | None, until: events.Until | None
    ) -> None:
        rules = events.RoundRules(
            job="j", rounds=ROUNDS, max_staleness=max_staleness, publish_if=gate, until=until
        )
        self.send(events.Submitted(rules=rules, start="0"))

    @rule(seconds=st.floats(-1, 60))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def clock(self) -> None:
        self.send(events.Clock())

    @rule(
        chosen=st.dictionaries(devices, st.sampled_from(["train", "train", "evaluate"])),
        attempt=st.sampled_from([None, 1, 2]),
        deadline_s=st.floats(0, 100),
        min_updates=st.integers(0, 4),
        enough=st.sampled_from([None, None, 1, 2]),
    )
    def opened(
        self,
        chosen: dict[str, str],
        attempt: int | None,
        deadline_s: float,
        min_updates: int,
        enough: int | None,
    ) -> None:
        candidate = self.state.current.candidate
        self.send(
            events.Opened(
                round=self.state.current.round,
                attempt=attempt or (candidate or self.state.current).attempt,
                members=tuple(member(device, kind) for device, kind in chosen.items()),
                deadline_s=deadline_s,
                min_updates=min_updates,
                target=enough,
            )
        )

    @rule(
        chosen=st.sets(st.sampled_from("abcd"), min_size=2),
        prompt=st.sets(st.sampled_from("abcd")),
        late=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), max_size=4),
        spoil=st.sampled_from([None, None, *"abcd"]),
        enough=st.integers(1, 2),
        publish=st.booleans(),
    )
    def a_round_with_stragglers(
        self,
        *,
        chosen: set[str],
        prompt: set[str],
        late: list[tuple[str, int]],
        spoil: str | None,
        enough: int,
        publish: bool,
    ) -> None:
        self.opened(dict.fromkeys(sorted(chosen), "train"), None, 10.0, enough, None)
        for device in sorted(prompt):
            self._update(device, self.state.current.round, 1)
        self.now += 10.0
        for device, back in late:
            self._update(device, self.state.current.round - back, 2)
        if spoil is not None:
            self.blob_spoiled(spoil)
        if publish:
            self._serve()
            self._serve()

    @rule(
        before=st.dictionaries(st.sampled_from("abcd"), losses, min_size=1),
        after=st.dictionaries(st.sampled_from("abcd"), losses),
        own_text=losses,
        publish=st.booleans(),
    )
    def a_round_with_a_candidate(
        self,
        before: dict[str, float],
        after: dict[str, float],
        own_text: float,
        publish: bool,
    ) -> None:
        self.opened(dict.fromkeys(sorted(before), "train"), None, 10.0, 1, None)
        number = self.state.current.round
        for device, loss in before.items():
            self.measured(device, number, loss, candidate=False)
            self._update(device, number, 1)
        self.combined(number, own_text)
        self.opened(dict.fromkeys("abcd", "evaluate"), None, 10.0, 1, None)
        for device, loss in after.items():
            self.measured(device, number, loss, candidate=True)
        if publish:
            self._serve()

    def measured(self, device: str, round_: int, loss: float, *, candidate: bool) -> None:
        found = (Evaluation(variant="adapter", loss=loss, tokens=3),)
        self.send(
            events.Evaluated(round=round_, device=device, evaluations=found, candidate=candidate)
        )

    def combined(self, round_: int, own_text: float) -> None:
        self.send(
            events.Combined(
                round=round_,
                manifest=f"{round_}",
                state=f"state of {round_}",
                record={"validation_loss": own_text},
            )
        )

    @rule(device=devices, back=st.integers(0, 2), times=st.integers(1, 2))
    def delivered(self, device: str, back: int, times: int) -> None:
        self._update(device, self.state.current.round - back, times)

    @rule(device=devices, round_=rounds)
    def delivered_for_any_round(self, device: str, round_: int) -> None:
        self._update(device, round_, 1)

    def _update(self, device: str, round_: int, times: int) -> None:
        train = TrainMetrics(steps=1, tokens=5, loss_first=2, loss_last=1, seconds_per_step=1)
        for _ in range(times):
            self.send(
                events.UpdateAccepted(
                    round=round_,
                    device=device,
                    sha256=f"{device}@{round_}",
                    size_bytes=1,
                    train=train,
                )
            )

    @rule(
        device=devices,
        round_=rounds,
        current=st.booleans(),
        candidate=st.booleans(),
        loss=losses,
        kind=st.sampled_from(["taken", "declined", "failed", "evaluated", "lost", "back"]),
    )
    def device_did(
        self, device: str, round_: int, *, current: bool, candidate: bool, loss: float, kind: str
    ) -> None:
        task: dict[str, Any] = {
            "round": self.state.current.round if current else round_,
            "device": device,
            "candidate": candidate,
        }
        found = (Evaluation(variant="adapter", loss=loss, tokens=3),)
        did: dict[str, Any] = {
            "taken": events.Taken(**task),
            "declined": events.Declined(**task, reason="no"),
            "failed": events.TaskFailed(**task, reason="no"),
            "evaluated": events.Evaluated(**task, evaluations=found),
            "lost": events.DeviceLost(device=device),
            "back": events.DeviceBack(device=device),
        }
        self.send(did[kind])

    @rule(round_=rounds, own_text=losses)
    def hub_combined(self, round_: int, own_text: float) -> None:
        self.combined(round_, own_text)

    @rule(what=st.sampled_from(["published", "away", "waiting"]), round_=rounds)
    def hub_did(self, what: str, round_: int) -> None:
        did: dict[str, Any] = {
            "published": events.Published(round=round_),
            "away": events.HubBack(away_s=20.0),
            "waiting": events.Waiting(round=round_, reason="nobody"),
        }
        self.send(did[what])

    @rule(device=devices)
    def blob_spoiled(self, device: str) -> None:
        record = self.state.current
        if device in record.accepted or device in record.stale:
            self.send(events.CombineFailed(round=record.round, reason="gone", device=device))

    @rule(data=st.data())
    def repeat_an_old_event(self, data: st.DataObject) -> None:
        _, event = data.draw(st.sampled_from(self.log))
        self.send(event)

    @rule()
    def do_as_wanted(self) -> None:
        self._serve()

    @invariant()
    def every_accepted_update_is_somewhere_exactly_once(self) -> None:
        found = Counter(places(self.state))
        assert all(count == 1 for count in found.values()), found
        assert set(found) == self.accepted

    @invariant()
    def what_may_be_combined_is_kept(self) -> None:
        for action in wanted(self.state, self.now):
            if isinstance(action, actions.Combine):
                combined = [update.device for update in action.updates]
                assert combined == sorted(set(combined))
                assert len(combined) >= self.state.current.min_updates
                assert {u.sha256 for u in action.updates} <= needed_updates(self.state)

    @invariant()
    def each_round_begins_with_a_released_adapter_and_the_state_beside_it(self) -> None:
        released = {"0": None}
        for record in self.state.records:
            assert record.start_state == released[record.start]
            if record.published_at is not None:
                assert record.combined is not None
                released[record.combined] = record.combined_state
        assert self.state.adapter == list(released)[-1]

    @invariant()
    def nothing_is_released_that_is_not_good_enough(self) -> None:
        gate = self.state.rules.publish_if if self.state.rules else None
        if gate is None:
            return
        for record in self.state.records:
            found = record.comparison
            if found is None:
                assert record.published_at is None or gate.metric == "validation_loss"
                continue
            good = found.loss <= found.reference * (1 + gate.max_regression)
            assert good == (record.rolled_back_at is None)
            assert found.devices > 0 or gate.metric == "validation_loss"

    @invariant()
    def a_replay_agrees(self) -> None:
        logged = [(at, events.decode_event(events.encode_event(one))) for at, one in self.log]
        again = replay(logged)
        assert again == self.state
        assert wanted(again, self.now) == wanted(self.state, self.now)

    def _serve(self) -> None:
        """Do what the hub can do without any device answering."""
        for action in wanted(self.state, self.now):
            match action:
                case actions.CloseRound():
                    self.send(events.Clock())
                case actions.Open(round=round_, attempt=attempt, exclude=exclude):
                    left = [one for one in DEVICES if one not in exclude]
                    self.send(
                        events.Opened(
                            round=round_,
                            attempt=attempt,
                            members=tuple(member(device, "train") for device in left),
                            deadline_s=50.0,
                        )
                    )
                case actions.OpenEvaluation(round=round_, attempt=attempt, known=known):
                    left = [one for one in DEVICES if one not in known]
                    self.send(
                        events.Opened(
                            round=round_,
                            attempt=attempt,
                            members=tuple(member(device, "evaluate") for device in left),
                            deadline_s=50.0,
                        )
                    )
                case actions.Combine(round=round_):
                    self.combined(round_, 1.0)
                case actions.Publish(round=round_):
                    self.send(events.Published(round=round_))
                case _:
                    pass

    def teardown(self) -> None:
        if self.state.rules is None:
            return
        for _ in range(100):
            if self.state.ended is not None:
                break
            self._serve()
            self.now += 60.0
            self.send(events.Clock())
        assert self.state.ended in ("done", "failed"), self.state.phase
        assert self.state.ended == "done" or self.state.reason
        self.a_replay_agrees()


Job.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAnyOrder = Job.TestCase
