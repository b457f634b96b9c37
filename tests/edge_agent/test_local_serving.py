"""The agent's side of serving: what is told, what is kept, and when training yields."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent import local_serving
from edge_agent.gather import Gathered
from edge_agent.local_serving import QUIET_S, LocalServing
from edge_agent.protocol import Following
from edge_agent.serving_state import Made, UserLock, read_state

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)


def _announce(round_: int, manifest: str) -> SimpleNamespace:
    base = SimpleNamespace(digest="f" * 64, derived=["gguf-q8_0"])
    return SimpleNamespace(round=round_, base=base, adapter=SimpleNamespace(sha256=manifest))


class Jobs:
    """What an agent knows of its jobs."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.finished: Any = None

    @property
    def active(self) -> list[str]:
        return list(self.known)

    def announced(self, job: str) -> Any:
        done = self.finished
        return done if done is not None and done.job == job else self.known.get(job)

    def plan_of(self, job: str) -> Any:
        return SimpleNamespace(role="lora") if job in self.known else None


class Agent:
    """A supervisor's parts that serving looks at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = SimpleNamespace(device="one")
        self.hub = SimpleNamespace(http="http://hub:1")
        self.jobs = Jobs()
        self.here: dict[str, Gathered] = {}
        self.adapters = SimpleNamespace(files=lambda ref: self.here.get(ref.sha256))
        self.rests = 0
        self.advances = 0
        self.setbacks = SimpleNamespace(ask_to_rest=self._rest)
        self.tasks = SimpleNamespace(advance=self._advance)

    def _rest(self) -> None:
        self.rests += 1

    def _advance(self) -> None:
        self.advances += 1


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


def _serving(agent: Agent) -> LocalServing:
    return LocalServing(agent)  # type: ignore[arg-type]


def _whole(*parts: str) -> Gathered:
    return Gathered(files={part: f"/blobs/aa/{part}" for part in parts}, following=[], components=4)


def test_an_adapter_is_told_once_all_of_it_is_here(agent: Agent) -> None:
    serving = _serving(agent)
    agent.jobs.known["notes"] = _announce(1, A)
    serving.tick(0.0)
    assert read_state(agent.folder) is None or not read_state(agent.folder).jobs
    agent.here[A] = _whole(B)
    serving.tick(1.0)  # nobody said that anything changed
    serving.changed()
    serving.tick(2.0)
    state = read_state(agent.folder)
    assert state is not None
    assert (state.device, state.http) == ("one", "http://hub:1")
    (job,) = state.jobs
    assert (job.job, job.round, job.manifest, job.parts, job.components) == ("notes", 1, A, [B], 4)
    assert job.derived == ["gguf-q8_0"]
    assert serving.kept == {A, B}


def test_the_one_before_is_served_until_the_next_is_whole(agent: Agent) -> None:
    serving = _serving(agent)
    agent.jobs.known["notes"] = _announce(1, A)
    agent.here[A] = _whole(B)
    serving.tick(0.0)
    agent.jobs.known["notes"] = _announce(2, C)
    serving.changed()
    serving.tick(1.0)
    assert serving.kept == {A, B}
    following = Following(part=D, held=f"/blobs/{B}", differences=["/blobs/" + "e" * 64])
    agent.here[C] = Gathered(files={}, following=[following], components=4)
    serving.changed()
    serving.tick(2.0)
    (job,) = read_state(agent.folder).jobs
    assert job.made == [Made(part=D, held=B, differences=["e" * 64])]
    assert serving.kept == {C, B, "e" * 64}


def test_the_last_adapter_of_a_job_that_is_done_stays(agent: Agent) -> None:
    serving = _serving(agent)
    agent.jobs.known["notes"] = _announce(1, A)
    agent.here[A] = _whole(B)
    serving.tick(0.0)
    del agent.jobs.known["notes"]
    agent.jobs.finished = _announce(2, C)
    agent.jobs.finished.job = "notes"
    serving.changed()
    serving.tick(1.0)
    assert serving.kept == {A, B}
    agent.here[C] = _whole(D)
    serving.changed()
    serving.tick(2.0)
    assert [job.manifest for job in read_state(agent.folder).jobs] == [C]
    agent.jobs.known["other"] = _announce(1, A)
    serving.changed()
    serving.tick(3.0)
    assert [job.job for job in read_state(agent.folder).jobs] == ["other", "notes"]
    # After a restart it is known from the file, though nobody announces it.
    again = Agent(agent.folder)
    reborn = _serving(again)
    reborn.tick(0.0)
    assert C in reborn.kept


def test_a_task_yields_while_a_user_waits_and_a_little_longer(agent: Agent) -> None:
    serving = _serving(agent)
    lock = UserLock(agent.folder)
    serving.tick(0.0)
    assert not serving.yields
    lock.tell(True)
    serving.tick(10.0)
    assert serving.yields
    assert agent.rests == 1
    lock.tell(False)
    serving.tick(10.0 + QUIET_S - 0.1)
    assert serving.yields
    assert agent.advances == 0
    serving.tick(10.0 + QUIET_S)
    assert not serving.yields
    assert agent.advances == 1
    serving.tick(99.0)
    assert agent.advances == 1
    lock.close()


def test_a_broken_file_does_not_stop_the_agent(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    (agent.folder / "serving.json").write_text("{")
    warned: list[str] = []
    monkeypatch.setattr(local_serving.log, "warning", lambda *words: warned.append(str(words)))
    serving = _serving(agent)
    assert not serving.kept
    assert "serving.json" in warned[0]


def test_a_lock_that_cannot_be_read_does_not_stop_the_agent(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(local_serving.log, "warning", lambda *words: warned.append(str(words)))
    serving = _serving(agent)
    lock = agent.folder / "user-waits"
    lock.symlink_to(lock)  # ELOOP, for root too
    for at in range(3):
        serving.tick(at)
    assert not serving.yields
    assert len(warned) == 1
    assert "user-waits" in warned[0]
    lock.unlink()
    held = UserLock(agent.folder)
    held.tell(True)
    serving.tick(3.0)
    assert serving.yields
    held.close()


def test_a_file_that_cannot_be_written_is_tried_again(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(local_serving.log, "warning", lambda *words: warned.append(str(words)))
    serving = _serving(agent)
    agent.jobs.known["notes"] = _announce(1, A)
    agent.here[A] = _whole(B)
    blocked = agent.folder / "serving.json.partial"
    blocked.mkdir()  # as a full disk: it can't be written
    for at in range(3):
        serving.tick(at)
    assert len(warned) == 1
    assert not serving.kept  # nobody was told of it
    blocked.rmdir()
    serving.tick(3.0)
    assert [job.manifest for job in read_state(agent.folder).jobs] == [A]
    assert serving.kept == {A, B}
