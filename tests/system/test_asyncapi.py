"""What really travels is what ``docs/asyncapi.yaml`` says: a whole job, and what can befall it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.cli.client import HubClient
from tests.asyncapi_reader import AsyncApi
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import FLEET, HubProcess, poll
from tests.system.recorder import Recorded, Recorder
from tests.system.small_base import job_text

pytestmark = pytest.mark.broker


@pytest.fixture
def recorder(broker: Any) -> Iterator[Recorder]:
    with Recorder("127.0.0.1", broker.port) as recorder:
        yield recorder


def of_topic(recorder: Recorder, topic: str) -> list[Recorded]:
    return [one for one in list(recorder.messages) if one.topic == topic]


def test_every_message_of_two_rounds_is_as_documented(
    recorder: Recorder, hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    fleet.join("j", a=("lora", 2), b=("lora", 4), c=("prompt", 0), d=("infer", 0))
    hub.submit(job_text("j", base, cohort={"min": 3, "max": 9}))
    assert fleet.finish(hub, "j").summary.phase == "done"
    seen = AsyncApi.of_the_project().judge(recorder.messages)

    assert seen.faults == []
    assert seen.names["Offer"] >= 11  # three that train, twice; all four evaluate in the end
    assert seen.names["Result"] >= 10
    for name in ("HubState", "RoundAnnounce", "DeviceState", "DeviceInfo", "Hello", "Welcome"):
        assert seen.names[name], name
    for name in ("Take", "BlobInit", "Credit", "Chunk", "BlobFin", "Accepted", "BlobGet"):
        assert seen.names[name], name
    data = {one.topic for one in recorder.messages if one.topic.startswith("lorikeet-data/")}
    assert f"lorikeet-data/v1/{FLEET}/job/j/slice/manifest" in data
    assert {f"lorikeet-data/v1/{FLEET}/d/a/up", f"lorikeet-data/v1/{FLEET}/d/a/down"} <= data


def test_refusals_cancellations_and_last_wills_are_as_documented(
    recorder: Recorder, hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    taken, idle = fleet.join("j", a=("lora", 2), b=("lora", 2))
    hub.submit(job_text("j", base, cohort={"min": 2, "max": 9}))
    offer = taken.await_offer(1)
    taken.take(offer)
    idle.take(idle.await_offer(1), accept=False)
    taken.upload(offer, b"x" * 2**24)  # far more than the offer allows
    with HubClient(hub.url) as client:
        client.cancel("j")
    state = f"lorikeet/v1/{FLEET}/d/b/state"
    fleet.leave(idle)
    poll("the device's last will", lambda: b'"lost"' in of_topic(recorder, state)[-1].payload)
    hub.kill9()
    state = f"lorikeet/v1/{FLEET}/hub/state"
    poll("the hub's last will", lambda: b"false" in of_topic(recorder, state)[-1].payload)

    seen = AsyncApi.of_the_project().judge(recorder.messages)
    assert seen.faults == []
    assert seen.names["Refused"] == seen.names["Cancel"] == 1
