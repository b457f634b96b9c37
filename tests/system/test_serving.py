"""OpenAI's client chats with a real agent's server while rounds go on."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python isn't built: make llama")
pytest.importorskip("openai", reason="the extra dev isn't installed: make setup")

import openai

from edge_agent.serving_state import ServingState, read_state
from hub.api.control import ENDED
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import ENVIRONMENT, SCRIPT, AgentProcess
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text

pytestmark = [pytest.mark.broker, pytest.mark.slow]

STEPS, ROUNDS = 150, 3
MARKER = "brolgas"


class ServerProcess:
    """``lorikeet-agent serve`` beside an agent."""

    def __init__(self, folder: Path, state: Path) -> None:
        self.log_file = folder / "serve.log"
        words = ["serve", "--state", str(state), "--listen", "127.0.0.1:0", "--threads", "1"]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [str(SCRIPT), *words], stdout=log, stderr=log, env=ENVIRONMENT
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def url(self) -> str:
        """Return where it listens, once it does."""

        def found() -> str:
            assert self.process.poll() is None, self.log
            return next((one for one in self.log.split() if one.startswith("http://")), "")

        where: str = poll("the server", lambda: found() if "answers at" in self.log else "", 120)
        return where


@pytest.fixture
def agent(tmp_path: Path, broker: Mosquitto) -> Iterator[AgentProcess]:
    data = write_data(tmp_path / "private" / "my.jsonl", marker="text")
    with AgentProcess(tmp_path / "ward", broker.url, "ward", data) as started:
        yield started


def test_the_model_answers_with_each_round_s_adapter(
    tmp_path: Path, hub: HubProcess, agent: AgentProcess
) -> None:
    local = {"steps": STEPS, "batch": 4, "min_batch": 4, "seq_len": 128, "min_seq_len": 128}
    base = write_trainable_base(tmp_path / "base")
    hub.submit(
        job_text("ward-notes", base, rounds=ROUNDS, local={**local, "lr": 0.02}, cohort={"min": 1})
    )
    server = ServerProcess(tmp_path, agent.state)
    answers: dict[str, str] = {}
    try:
        url = server.url()
        with openai.OpenAI(base_url=url, api_key="none", timeout=120) as client:

            def ask() -> str:
                found = client.chat.completions.create(
                    model="ward-notes",
                    messages=[{"role": "user", "content": f"say {MARKER}"}],
                    temperature=0,
                    max_tokens=12,
                )
                adapter = found.system_fingerprint or ""
                text = found.choices[0].message.content or ""
                # One adapter always says the same.
                assert answers.setdefault(adapter, text) == text
                return adapter

            poll("training", lambda: "task ward-notes" in agent.log, 120)
            first = ask()
            poll("the task that yields", lambda: "a user waits" in agent.log, 60)
            poll("the task that goes on", lambda: "no user waits" in agent.log, 60)

            def ended() -> bool:
                return hub.job("ward-notes").summary.phase in ENDED

            def newest() -> str:
                state = read_state(agent.state) or ServingState(device="")
                return state.jobs[0].manifest

            end = time.monotonic() + 280
            while not ended() or len(answers) < 2:
                assert time.monotonic() < end, (agent.log[-3000:], server.log)
                if newest() not in answers and len(answers) < 2:
                    ask()
                time.sleep(0.5)
            final = hub.job("ward-notes")
            assert final.summary.phase == "done", agent.log
            # The last round's adapter comes, too, and is served.
            poll("the last adapter", lambda: ask() == newest() != first, 60)
            for adapter in list(answers)[-1:]:
                assert ask() == adapter
    finally:
        server.process.terminate()
        server.process.wait(30)
    assert len(answers) >= 2
    for log in (server.log, agent.log, hub.log):
        assert MARKER not in log
    assert server.process.returncode == 0
