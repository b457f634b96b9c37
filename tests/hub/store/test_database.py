"""The database."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy

from hub.errors import ConflictError, NotFoundError
from hub.rounds import events
from hub.rounds.round import apply
from hub.rounds.state import JobState
from hub.scheduling.contract import Member
from hub.store.database import DeviceRow, Store
from hub.store.errors import StoreError
from hub.store.tables import METADATA
from wire.messages import Evaluation

START = events.Submitted(rules=events.RoundRules(job="j", rounds=2), start="s0")
MEMBER = Member(
    device="a",
    kind="train",
    role="lora",
    rung="streamed",
    rank=2,
    steps=3,
    batch=1,
    seq_len=8,
    codec="raw",
    variants=("base", "adapter"),
    reason="fits",
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/hub.db"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    store.add_job("j", {"file": "job: j"}, created=1.5)
    yield store
    store.close()


def test_events_come_back_in_order_with_their_times(store: Store) -> None:
    opened = events.Opened(round=1, attempt=1, members=(MEMBER,), deadline_s=0.1 + 0.2)
    log = [(0.1, START), (1e9 + 1 / 3, opened), (5.0, events.Taken(round=1, device="a"))]
    numbers = [store.append("j", event, at) for at, event in log]
    assert numbers == sorted(set(numbers))
    assert list(store.read("j")) == log
    assert store.last_at("j") == 5.0
    assert store.count("j") == 3


def test_each_job_has_its_own_log(store: Store) -> None:
    store.add_job("k", {}, created=2.0)
    store.append("j", START, 1.0)
    store.append("k", events.Clock(), 2.0)
    store.append("j", events.Clock(), 3.0)
    assert [at for at, _ in store.read("j")] == [1.0, 3.0]
    assert [at for at, _ in store.read("k")] == [2.0]
    assert store.last_at("nobody") is None


def test_a_replay_is_the_state_that_was_live(store: Store) -> None:
    state = JobState()
    evaluated = events.Evaluated(
        round=1, device="a", evaluations=(Evaluation(variant="base", loss=1 / 3, tokens=7),)
    )
    for at, event in (
        (0.1, START),
        (0.2, events.Opened(round=1, attempt=1, members=(MEMBER,), deadline_s=30.7)),
        (0.3, evaluated),
        (31.0, events.Clock()),
    ):
        store.append("j", event, at)
        state = apply(state, event, at)
    assert store.replay("j") == state
    assert state.current.attempt == 2


def test_a_long_log_is_read_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.store.database.PAGE", 3)
    for index in range(7):
        store.append("j", events.Clock(), float(index))
    assert [at for at, _ in store.read("j")] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_entries_can_be_followed_from_a_number_on(store: Store) -> None:
    first = store.append("j", START, 1.0)
    second = store.append("j", events.DeviceLost(device="a"), 2.0)
    (row,) = store.events("j", after=first)
    assert (row.seq, row.at, row.kind) == (second, 2.0, "DeviceLost")
    assert msgspec.json.decode(row.payload) == {"kind": "DeviceLost", "device": "a"}
    assert len(store.events("j", limit=1)) == 1


def test_an_event_that_would_not_come_back_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="infinite or not one"):
        store.append("j", events.HubBack(away_s=float("nan")), 1.0)
    assert store.count("j") == 0


def test_an_event_of_no_job_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="event Clock of job nobody can't be written"):
        store.append("nobody", events.Clock(), 1.0)


def test_an_event_of_a_newer_hub_is_named(store: Store, url: str) -> None:
    store.append("j", events.Clock(), 1.0)
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE events SET kind='Novel', payload='{\"kind\":\"Novel\"}'")
        )
    engine.dispose()
    with pytest.raises(StoreError, match=r"\(Novel\) of job j can't be read"):
        store.replay("j")


_WRITER = """
import sys
from hub.rounds import events
from hub.store.database import Store
store = Store(sys.argv[1])
store.add_job("j", {}, created=0.0)
for index in range(10**6):
    print(store.append("j", events.Clock(), float(index)), flush=True)
"""


def test_what_was_appended_survives_a_kill(url: str) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, url],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert writer.stdout is not None
    for _ in range(20):
        assert writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    said = 20 + len(writer.stdout.read().splitlines())
    writer.wait()
    writer.stdout.close()
    store = Store(url)
    times = [at for at, _ in store.read("j")]
    assert len(times) in (said - 1, said, said + 1)  # the last line may be cut, or not yet said
    assert times == [float(index) for index in range(len(times))]
    store.append("j", events.Clock(), 0.5)
    store.close()


def test_threads_may_read_while_one_writes(store: Store) -> None:
    seen: list[int] = []
    failed: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                seen.append(len(store.events("j")))
            seen.append(len(store.events("j")))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for index in range(50):
        store.append("j", events.Clock(), float(index))
    done.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert seen[-1] == 50


def test_sqlite_writes_ahead_and_waits_for_the_disk(store: Store) -> None:
    with store._engine.connect() as connection:
        mode = connection.execute(sqlalchemy.text("PRAGMA journal_mode")).scalar_one()
        full = connection.execute(sqlalchemy.text("PRAGMA synchronous")).scalar_one()
    assert (mode, full) == ("wal", 2)  # 2 is FULL


def test_jobs_are_listed_with_their_status(store: Store) -> None:
    store.add_job("i", {"n": [1, 2]}, created=1.0)
    store.status("j", "done")
    assert [(one.job, one.spec, one.created, one.status) for one in store.jobs()] == [
        ("i", {"n": [1, 2]}, 1.0, "open"),
        ("j", {"file": "job: j"}, 1.5, "done"),
    ]
    assert store.status_of("j") == "done"
    with pytest.raises(NotFoundError, match="no job 'x'"):
        store.status_of("x")


def test_a_job_of_the_same_name_is_refused(store: Store) -> None:
    with pytest.raises(ConflictError, match="there is a job 'j' already"):
        store.add_job("j", {}, created=2.0)


def test_a_device_is_written_over(store: Store) -> None:
    one = DeviceRow(
        device="d", session="s", first_seen=1.0, last_seen=2.0, state="ready", info={"cores": 2}
    )
    store.save_device(one)
    later = msgspec.structs.replace(one, last_seen=3.0, session=None, info=None)
    store.save_device(later)
    store.save_device(msgspec.structs.replace(one, device="c"))
    assert [row.device for row in store.devices()] == ["c", "d"]
    assert store.devices()[1] == later


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_that_forgets_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="in memory and forgets"):
        Store(url)


@pytest.mark.parametrize("url", ["nonsense", "nosuchdb://x/y"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match=r"can't be opened: .* Set store\.database"):
        Store(url)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_text("this is a letter, not a database\n" * 100)
    with pytest.raises(StoreError, match=r"hub\.db can't be opened: file is not a database"):
        Store(f"sqlite:///{tmp_path}/hub.db")


def test_the_tables_suit_postgresql() -> None:
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    created = {
        table.name: str(CreateTable(table).compile(dialect=postgresql.dialect()))
        for table in METADATA.sorted_tables
    }
    assert "seq BIGSERIAL NOT NULL" in created["events"]
    assert "spec JSONB NOT NULL" in created["jobs"]
    assert "at DOUBLE PRECISION NOT NULL" in created["events"]
