"""Scripted devices, and honest work for them."""

import time
from collections.abc import Sequence

from hub.api.control import ENDED, JobDetail
from tests.scripted_device import ScriptedDevice
from tests.system.hub_process import FLEET, HubProcess
from wire.broker_settings import BrokerSettings
from wire.messages import Offer, Welcome


class Fleet:
    """The devices of a test, and honest work for them."""

    def __init__(self, url: str | BrokerSettings) -> None:
        self._url = url
        self.all: dict[str, ScriptedDevice] = {}
        self.served: set[str] = set()

    def add(self, device: str, *, role: str = "lora", rank: int = 2) -> ScriptedDevice:
        """Connect a device and greet; it has no plan yet."""
        one = ScriptedDevice(self._url, FLEET, device, role=role, rank=rank)
        self.all[device] = one
        answer = one.greet()
        assert isinstance(answer, Welcome), answer
        return one

    def join(self, job: str, **devices: tuple[str, int]) -> list[ScriptedDevice]:
        """Connect devices, given as name=(role, rank), that have a plan for the job."""
        joined = [self.add(name, role=role, rank=rank) for name, (role, rank) in devices.items()]
        for one in joined:
            one.describe(job)
        return joined

    def greet(self) -> None:
        """Greet again, as agents do when the hub's epoch or the connection is new."""
        for one in self.all.values():
            assert isinstance(one.greet(), Welcome)

    def leave(self, *devices: ScriptedDevice) -> None:
        for one in devices:
            one.vanish()
            del self.all[one.id]

    def work(self, device: ScriptedDevice, offer: Offer) -> None:
        """Do a task honestly; a device's numbers depend on its id and the round only."""
        device.take(offer)
        if offer.kind == "evaluate":
            device.result(offer, None)
        else:
            deliver(device, offer)
        self.served.add(offer.task)

    def serve(self, *, only: Sequence[str] = ()) -> None:
        """Serve every offer that is here by now."""
        for one in list(self.all.values()):
            if only and one.id not in only:
                continue
            one.pump(0.02)
            for offer in list(one.offers):
                one.offers.remove(offer)
                if offer.task not in self.served:
                    self.work(one, offer)

    def finish(
        self, hub: HubProcess, job: str, *, only: Sequence[str] = (), timeout_s: float = 60.0
    ) -> JobDetail:
        """Serve every offer until the job has ended; return it."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.serve(only=only)
            detail = hub.job(job)
            if detail.summary.phase in ENDED:
                return detail
        raise TimeoutError(f"{job} is {hub.job(job)}\n{hub.log[-3000:]}")

    def close(self) -> None:
        for one in self.all.values():
            one.close()


def seed_of(device: ScriptedDevice, offer: Offer) -> int:
    return sum(device.id.encode()) * 100 + offer.round


def honest_update(device: ScriptedDevice, offer: Offer) -> bytes:
    return device.make_update(offer, seed=seed_of(device, offer))


def deliver(device: ScriptedDevice, offer: Offer) -> None:
    """Send an honest update of a task that was taken."""
    blob = honest_update(device, offer)
    device.upload(offer, blob)
    device.result(offer, blob)
