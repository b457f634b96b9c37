"""Two sessions with one device id."""

from pathlib import Path

import pytest

from tests.scripted_device import ScriptedDevice
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import FLEET, HubProcess, poll
from tests.system.small_base import job_text
from wire.messages import Hello, Refused, Report, Welcome, encode

pytestmark = pytest.mark.broker


def ask_to_enter(device: ScriptedDevice) -> None:
    hello = Hello(id="enter", session=device.session, agent_version="test", wire_version=1)
    device.link.publish(device.topics.request(device.id, "hello"), encode(hello), hello.QOS)


def entered(device: ScriptedDevice) -> Welcome | Refused:
    answer: Welcome | Refused = device._await(lambda e: getattr(e, "re", None) == "enter")
    assert answer is not None
    return answer


def test_the_later_of_two_is_refused_and_the_first_goes_on(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    first, _ = fleet.join("j", twin=("lora", 2), b=("lora", 2))
    hub.submit(job_text("j", base, rounds=1, cohort={"min": 2, "max": 9}))
    offer = first.await_offer(1)
    first.take(offer)
    later = ScriptedDevice(fleet._url, FLEET, "twin")
    try:
        ask_to_enter(later)

        def asked() -> list[Report]:
            first.pump(0.01)
            return [m for m in first.seen if isinstance(m, Report) and m.session == first.session]

        poll("the hub's question", asked)
        assert isinstance(first.greet(), Welcome)
        answer = entered(later)
        assert isinstance(answer, Refused)
        assert answer.session == later.session
        assert "another live session has the device id 'twin'" in answer.reason
        assert "--id" in answer.reason
    finally:
        later.vanish()  # its will says that "twin" is lost, which is true of another session
    fleet.served.add(offer.task)
    assert isinstance(first.result(offer, None), Refused)  # an update is missing
    blob = first.make_update(offer)
    first.upload(offer, blob)
    first.result(offer, blob)
    assert fleet.finish(hub, "j").summary.phase == "done"
    assert hub.accepted("j") == [(1, "b"), (1, "twin")]
    assert not hub.events("j", "DeviceLost")


def test_a_first_session_that_does_not_answer_gives_its_place_away(
    hub: HubProcess, fleet: Fleet, base: Path
) -> None:
    first, _ = fleet.join("j", twin=("lora", 2), b=("lora", 2))
    hub.submit(job_text("j", base, rounds=1, cohort={"min": 2, "max": 9}))
    first.take(first.await_offer(1))
    # From here on nobody reads what comes for the first one: as if its machine hung.
    later = ScriptedDevice(fleet._url, FLEET, "twin")
    fleet.all["twin"] = later
    try:
        ask_to_enter(later)
        assert isinstance(entered(later), Welcome)
        later.describe("j")
        # The task that the first one took is offered to its successor.
        fleet.work(later, later.await_offer(1))
        assert fleet.finish(hub, "j").summary.phase == "done"
        assert hub.accepted("j") == [(1, "b"), (1, "twin")]
    finally:
        first.close()
