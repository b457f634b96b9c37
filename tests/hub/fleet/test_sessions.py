"""Two machines with one id: the first stays, unless it is gone."""

from hub.fleet.sessions import PROBE_S, RESTS, SILENCE_S, Device, Sessions
from wire.messages import DeviceInfo, DeviceState, TaskPeak, Telemetry


def state(session: str, name: str = "ready") -> DeviceState:
    return DeviceState(state=name, session=session, ts=0.0)  # type: ignore[arg-type]


def test_the_first_session_is_welcome_and_stays_so_when_it_greets_again() -> None:
    sessions = Sessions()
    assert sessions.hello("cam-7", "a", "1", now=10) == "welcome"
    assert sessions.hello("cam-7", "a", "2", now=11) == "welcome"
    assert [d.id for d in sessions.live()] == ["cam-7"]


def test_a_second_session_is_refused_once_the_first_has_answered() -> None:
    sessions = Sessions()
    sessions.hello("cam-7", "a", "1", now=10)
    assert sessions.hello("cam-7", "b", "9", now=11) == "probe"
    assert sessions.hello("cam-7", "b", "9", now=12) == "wait"
    assert sessions.hello("cam-7", "a", "2", now=13) == "welcome"
    refused = sessions.refused("cam-7")
    assert refused is not None
    assert (refused.challenger, refused.hello) == ("b", "9")
    assert sessions.owns("cam-7", "a", now=14)
    assert not sessions.owns("cam-7", "b", now=14)
    assert sessions.expired(now=10 + 10 * PROBE_S) == []


def test_a_session_that_never_answers_gives_its_place_away() -> None:
    sessions = Sessions()
    sessions.hello("cam-7", "a", "1", now=10)
    sessions.hello("cam-7", "b", "9", now=11)
    assert sessions.expired(now=11 + PROBE_S / 2) == []
    [(device, probe)] = sessions.expired(now=11 + PROBE_S)
    assert (device, probe.challenger) == ("cam-7", "b")
    assert sessions.owns("cam-7", "b", now=20)


def test_a_third_session_is_refused_while_the_second_waits() -> None:
    sessions = Sessions()
    sessions.hello("cam-7", "a", "1", now=10)
    sessions.hello("cam-7", "b", "9", now=11)
    assert sessions.hello("cam-7", "c", "5", now=12) == "refuse"


def test_the_will_of_a_refused_session_changes_nothing() -> None:
    sessions = Sessions()
    sessions.hello("cam-7", "a", "1", now=10)
    assert sessions.on_state("cam-7", state("b", "lost"), now=11) is None
    assert sessions.owns("cam-7", "a", now=12)


def test_a_lost_session_makes_room_and_may_come_back() -> None:
    sessions = Sessions()
    sessions.hello("cam-7", "a", "1", now=10)
    assert sessions.on_state("cam-7", state("a", "lost"), now=11) == "refuse"
    assert sessions.live() == []
    assert sessions.hello("cam-7", "b", "1", now=12) == "welcome"


def test_a_session_that_was_not_heard_for_long_is_given_up() -> None:
    sessions = Sessions()
    sessions.hello("cam-7", "a", "1", now=10)
    assert sessions.owns("cam-7", "a", now=20)
    assert sessions.silent(now=20 + SILENCE_S) == []
    assert sessions.silent(now=21 + SILENCE_S) == ["cam-7"]
    assert sessions.live() == []
    assert sessions.hello("cam-7", "a", "2", now=300) == "welcome"


def test_what_a_session_said_of_itself_does_not_hold_for_the_next_one() -> None:
    sessions = Sessions()
    sessions.hello("cam-7", "a", "1", now=10)
    sessions.devices["cam-7"].info = DeviceInfo(
        session="a", ts=0, agent_version="1", wire_version=1, machine="x", cores=1,
        memory_limit_bytes=10**9, memory_reason="--memory", codecs=["raw"],
    )  # fmt: skip
    sessions.on_state("cam-7", state("a", "lost"), now=11)
    sessions.hello("cam-7", "a", "2", now=12)
    assert sessions.devices["cam-7"].info is not None  # the same one came back
    sessions.on_state("cam-7", state("a", "lost"), now=13)
    sessions.hello("cam-7", "b", "1", now=14)
    assert sessions.devices["cam-7"].info is None


def test_a_device_that_rests_is_there_and_says_why() -> None:
    sessions = Sessions()
    sessions.hello("cam-7", "a", "1", now=10)
    sleeps = DeviceState(state="sleeping", session="a", ts=0.0, reason="the battery has 12 %")
    assert sessions.on_state("cam-7", sleeps, now=11) is None
    [device] = sessions.live()
    assert (device.state, device.state_reason) == ("sleeping", "the battery has 12 %")
    assert device.state in RESTS
    assert sessions.on_state("cam-7", state("a"), now=12) is None
    assert (device.state, device.state_reason) == ("ready", None)


def test_a_peak_that_was_told_once_is_kept_with_later_snapshots() -> None:
    def peak(task: str) -> TaskPeak:
        return TaskPeak(
            task=task, rung="r", predicted_peak_bytes=1, measured_peak_bytes=1, limit_bytes=1,
            error=0.0,
        )  # fmt: skip

    device = Device(id="a", first_seen=0.0, last_seen=0.0)
    for peaks in ([peak("1")], [], [peak("2"), peak("3")], [peak("4")], []):
        device.hear(Telemetry(session="s", ts=1.0, supervisor_rss_bytes=1, peaks=peaks))
    assert device.telemetry is not None
    assert [one.task for one in device.telemetry.peaks] == ["2", "3", "4"]


def greet(sessions: Sessions, *ids: str, now: float) -> list[str]:
    """Let devices greet a second apart; return the decisions."""
    return [sessions.hello(one, f"s-{one}", "1", now + after) for after, one in enumerate(ids)]


def test_beyond_the_limit_the_stranger_is_forgotten_that_was_not_heard_for_longest() -> None:
    sessions = Sessions(most=3, workers=lambda: {"a"})
    assert greet(sessions, "a", "b", "c", now=10) == ["welcome"] * 3
    sessions.owns("b", "s-b", now=20)  # so "c" is the older one; "a" did work
    assert greet(sessions, "d", now=30) == ["welcome"]
    assert sorted(sessions.devices) == ["a", "b", "d"]
    assert sessions.take_forgotten() == ["c"]
    assert sessions.take_forgotten() == []


def test_a_forgotten_device_that_lives_is_a_stranger_and_welcome_when_it_greets() -> None:
    sessions = Sessions(most=1)
    greet(sessions, "a", "b", now=10)
    assert not sessions.owns("a", "s-a", now=12)
    assert greet(sessions, "a", now=13) == ["welcome"]
    assert sessions.owns("a", "s-a", now=14)


def test_a_newcomer_finds_no_place_where_all_did_work_and_a_known_one_keeps_its_own() -> None:
    sessions = Sessions(most=2, workers=lambda: {"a", "b"})
    greet(sessions, "a", "b", now=10)
    assert greet(sessions, "c", "a", now=20) == ["full", "welcome"]
    assert sorted(sessions.devices) == ["a", "b"]
    assert sessions.take_forgotten() == []


def test_a_flood_of_ids_is_forgotten_by_the_hundredth_and_never_exceeds_the_limit() -> None:
    sessions, asked = Sessions(most=1000), []
    sessions._workers = lambda: asked.append(1) or set()  # type: ignore[func-returns-value]
    for number in range(3000):
        sessions.hello(f"id-{number}", "s", "1", now=float(number))
        assert len(sessions.devices) <= 1000
    # 2,000 beyond the limit, ten at a time.
    assert len(asked) == 200
    assert "id-2999" in sessions.devices


def test_a_lower_limit_than_before_the_restart_is_kept_from_the_first_greeting_on() -> None:
    first = Sessions()
    greet(first, *"abcde", now=10)
    sessions = Sessions(list(first.devices.values()), most=2)
    greet(sessions, "f", now=20)
    assert sorted(sessions.devices) == ["e", "f"]
