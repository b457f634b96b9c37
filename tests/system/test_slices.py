"""A real agent that only serves, on a metered link, takes the leading slices of the broadcast."""

import datetime
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.hash_cache import HashCache
from hub.models import load_model
from tests.conftest import Mosquitto
from tests.system.agent_base import HIDDEN, LAYERS, MLP, write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.test_agents import limits, planned
from tests.system.wiretap import Wiretap
from wire.blobs import BlobStore
from wire.manifest import AdapterManifest
from wire.messages import BlobGet, DeviceInfo, Result

pytestmark = [pytest.mark.broker, pytest.mark.slow]

RANK = 1024
#: In bfloat16; the slices have 256, 256 and 512 components.
START_BYTES = 2 * RANK * LAYERS * (4 * 2 * HIDDEN + 3 * (HIDDEN + MLP))
#: A tenth of what is left of the day is five eighths of the start: two slices of three, and a bit.
CAP, LEFT = 40_000_000, START_BYTES * 10 * 5 // 8
#: Of a cap, what no chunk may use.
RESERVE = CAP // 100
SHAPE: dict[str, Any] = {
    "method": "lora",
    "lora": {"rank": RANK, "min_rank": RANK},
    "local": {"steps": 1, "batch": 32, "min_batch": 32, "seq_len": 256, "min_seq_len": 256},
    "cohort": {"min": 1, "max": 9},
    "rounds": 1,
}


class ServingAgent(AgentProcess):
    """An agent whose memory is enough for inference only, on a metered link."""

    def __init__(self, folder: Path, broker: str, memory_bytes: int) -> None:
        data = write_data(folder / "my.jsonl", marker="text")
        super().__init__(folder, broker, "kiosk", data, memory_bytes)
        self._command += ["--data-cap", "40MB"]
        today = datetime.datetime.now(datetime.UTC).date()
        days = {str(today + datetime.timedelta(days=n)): CAP - RESERVE - LEFT for n in (0, 1)}
        self.state.mkdir(parents=True)
        (self.state / "data_cap.json").write_text(json.dumps(days))


@pytest.fixture
def fleet(broker: Mosquitto) -> Iterator[Fleet]:
    found = Fleet(broker.url)
    yield found
    found.close()


def test_a_serving_device_takes_the_leading_components_and_says_so(
    tmp_path: Path, broker: Mosquitto, hub: HubProcess, fleet: Fleet
) -> None:
    base = write_trainable_base(tmp_path / "base")
    memory = limits(planned(base))["small"]
    agent = ServingAgent(tmp_path / "kiosk", broker.url, memory)
    # The base came on a card: over this link it would take the day's data.
    digest = load_model(str(base), HashCache(tmp_path / "hashes.json")).digest
    shutil.copytree(base, agent.state / "models" / digest)
    (agent.state / "models" / digest / "complete").write_text(digest + "\n")
    with Wiretap(broker.url) as tap, agent:
        hub.submit(job_text("sliced", base, **SHAPE))

        def planned_role() -> str | None:
            infos = tap.messages(DeviceInfo, "kiosk")
            plan = infos[-1].plans.get("sliced") if infos else None
            return plan.role if plan else None

        assert poll("the kiosk's plan", planned_role, 150) == "infer"
        (trainer,) = fleet.join("sliced", trainer=("lora", 2))
        offer = trainer.await_offer(1)

        def measured() -> Result | None:
            found = [one for one in tap.messages(Result, "kiosk") if one.status == "done"]
            return found[0] if found else None

        result: Result = poll("the kiosk's losses", measured, 150)
        assert {one.variant: one.rank for one in result.evaluations} == {"base": 0, "adapter": 512}
        path = BlobStore(agent.state / "blobs").path(offer.adapter.sha256)
        assert path is not None
        slices = [one.sha256 for one in AdapterManifest.decode(path.read_bytes()).lora_slices()]
        assert len(slices) == 3
        asked = {one.sha256 for one in tap.messages(BlobGet, "kiosk")}
        assert asked & set(slices) == set(slices[:2])
