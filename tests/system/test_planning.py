"""A device that is there but never says what it can do."""

from pathlib import Path

import pytest

from tests.system.honest_fleet import Fleet
from tests.system.hub_process import HubProcess
from tests.system.small_base import job_text

pytestmark = pytest.mark.broker


def test_a_device_that_never_plans_delays_no_later_round(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    """The first round may give it a moment; whoever let that pass is not waited for again."""
    (a,) = fleet.join("j", a=("lora", 2))
    fleet.add("mute")
    hub.submit(job_text("j", base, rounds=2))
    fleet.work(a, a.await_offer(1))
    fleet.work(a, a.await_offer(2))
    reasons = [one.data for one in hub.events("j", "Waiting")]
    assert [one["round"] for one in reasons if "still plan" in one["reason"]] in ([], [1])
