"""The broker is killed with -9 in the middle of a round and comes back, having forgotten all."""

from pathlib import Path
from typing import Any

import pytest

from tests.system.honest_fleet import Fleet, deliver
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text

pytestmark = pytest.mark.broker


def test_the_job_goes_on_when_the_broker_is_back(
    hub: HubProcess, fleet: Fleet, base: Path, broker: Any
) -> None:
    a, b, c = fleet.join("j", a=("lora", 2), b=("lora", 4), c=("prompt", 0))
    hub.submit(job_text("j", base, cohort={"min": 3, "max": 9}))
    offers = {device.id: device.await_offer(1) for device in (a, b, c)}
    for device in (a, b):
        device.take(offers[device.id])
    deliver(a, offers["a"])
    fleet.served |= {offers["a"].task, offers["b"].task}
    broker.kill()
    poll("the devices to notice", lambda: not any(d.link.connected for d in (a, b, c)))
    broker.start()
    poll("the devices to return", lambda: all(d.link.connected for d in (a, b, c)))
    for device in (a, b, c):
        device.describe("j")
    fleet.greet()
    deliver(b, offers["b"])
    assert fleet.finish(hub, "j").summary.phase == "done"
    assert hub.accepted("j") == [(r, d) for r in (1, 2) for d in "abc"]
    away = [line for line in hub.log.splitlines() if "is away" in line]
    assert len(away) == 1
