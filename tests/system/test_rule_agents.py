"""A real agent over a real broker, job after job, each by another rule."""

from pathlib import Path

import pytest

from hub.api.control import ENDED, JobDetail
from tests.conftest import Mosquitto
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.messages import BlobInit

pytestmark = [pytest.mark.broker, pytest.mark.slow]

RANK = 4
#: Of two blocks' matrices: q, k, v and o are 32 × 32, gate and up 256 × 32, down 32 × 256.
OUT, INPUTS, MATRICES = 2 * (4 * 32 + 2 * 256 + 32), 2 * (4 * 32 + 2 * 32 + 256), 14
#: Numbers in the updates of two rounds.
NUMBERS = {
    "stack_svd": [RANK * (OUT + INPUTS), RANK * (OUT + INPUTS)],
    "freeze_a": [RANK * OUT, RANK * OUT],
    "core": [RANK * (OUT + INPUTS), MATRICES * RANK**2],
}


def run(hub: HubProcess, base: Path, rule: str) -> JobDetail:
    """Run a job of two rounds; return it."""
    name = rule.replace("_", "-")
    local = {"steps": 6, "batch": 4, "seq_len": 48, "min_seq_len": 48, "lr": 0.02}
    lora = {"rank": RANK, "min_rank": RANK}
    changes = {"rule": rule, "method": "lora", "codec": "raw", "lora": lora, "local": local}
    hub.submit(job_text(name, base, **changes))

    def ended() -> JobDetail | None:
        detail = hub.job(name)
        return detail if detail.summary.phase in ENDED else None

    detail: JobDetail = poll(f"the end of {name}", ended, 150)
    return detail


def test_an_agent_trains_what_each_rule_asks(
    hub: HubProcess, broker: Mosquitto, tmp_path: Path
) -> None:
    base = write_trainable_base(tmp_path / "model")
    data = write_data(tmp_path / "private.jsonl", marker="m")
    with (
        Wiretap(broker.url) as tap,
        AgentProcess(tmp_path / "agent", broker.url, "one", data, 900_000_000) as agent,
    ):
        for rule, numbers in NUMBERS.items():
            job = run(hub, base, rule)
            assert job.summary.phase == "done", (job.summary, agent.log[-3000:])
            assert job.loss_after["one"] < job.loss_before["one"]
            sent = {one.task: one.size_bytes for one in tap.messages(BlobInit, "one")}
            for round_, wanted in enumerate(numbers, start=1):
                # Four bytes a number, and a head and a length for each tensor.
                size_bytes = sent[f"{job.summary.job}.{round_}.one"]
                assert 4 * wanted < size_bytes < 4 * wanted + 200
