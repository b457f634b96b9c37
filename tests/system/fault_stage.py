"""A job of two devices, one behind a faulty line; what must hold of it whatever happens."""

import random
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.cli.client import HubClient
from tests.conftest import Mosquitto
from tests.system.faulty_relay import FaultyRelay
from tests.system.honest_fleet import Fleet
from tests.system.hub_process import HubProcess, poll
from tests.system.small_base import job_text
from tests.system.steady_device import DeviceKilledError, SteadyDevice

#: Two layers of hidden 512 and MLP 1024 have 2 × (4 × 1024 + 3 × 1536) = 17 408 entries a rank;
#: raw, at rank 16, 1 114 112 bytes: 17 chunks and a few bytes, up as an update and down as a start.
SHAPE: dict[str, int] = {"hidden": 512, "mlp": 1024, "layers": 2}
RANK = 16
RAW_BYTES = 1_114_112
#: A hub that holds two updates and an adapter at once, twice over, stays far below this.
MEMORY_BYTES = 40_000_000
#: Of one kind, whatever number or digest stands in them.
MOST_ALIKE = 8

JOB: dict[str, Any] = {
    "method": "lora",
    "lora": {"rank": RANK, "min_rank": 1},
    "codec": "raw",
    "rounds": 1,
    "cohort": {"min": 2, "max": 9},
}


@dataclass(frozen=True)
class FaultSite:
    """What the stages of a module share; each has a job of its own."""

    folder: Path
    broker: Mosquitto
    hub: HubProcess
    base: Path


class FaultStage:
    """Broker, hub and two devices: ``a`` behind a relay, ``b`` on a good line.

    Args:
        site: whose broker and hub are running, and which this stage has for itself.
        job: name of the job.
    """

    def __init__(self, site: FaultSite, job: str) -> None:
        self.broker = site.broker
        self.hub = site.hub
        self.job = job
        self.fleet = Fleet(site.broker.url)
        self.relay = FaultyRelay(site.broker.port)
        self._site = site
        self._relays = [self.relay]
        self._peak_before = hub_peak_bytes(site.hub)
        self._log_before = len(site.hub.log)
        self.join("a", self.relay.url)
        self.join("b", site.broker.url)

    @property
    def log(self) -> str:
        """What the hub said since this stage began."""
        return self.hub.log[self._log_before :]

    def close(self) -> None:
        self.fleet.close()
        for relay in self._relays:
            relay.close()

    def join(self, name: str, url: str) -> SteadyDevice:
        """Connect a device; one that was here before finds its disk as it left it."""
        device = SteadyDevice(url, name, self._site.folder / f"{self.job}-{name}", self.job, RANK)
        self.fleet.all[name] = device
        return device

    # Faults

    def broker_killed(self) -> None:
        """Kill the broker with -9, and start it again: it has forgotten everything."""
        self.broker.kill()
        self.broker.start()

    def hub_killed(self) -> None:
        self.hub.restart()

    def device_killed(self) -> None:
        """Kill device ``a`` in the middle of a packet; `run` brings it back."""
        device = self.fleet.all["a"]
        assert isinstance(device, SteadyDevice)
        device.die()
        self.relay.cut()

    # The job

    def submit(self) -> None:
        self.hub.submit(job_text(self.job, self._site.base, **JOB))

    def run(self, until: Callable[[], bool]) -> None:
        """Serve until something has come; a device that was killed meanwhile is started again."""

        def served() -> bool:
            come = until()  # asked first, so that whom it killed is served once more, and missed
            try:
                self.fleet.serve()
            except DeviceKilledError:
                self._bring_back()
            return come

        poll("the fault", served, 60.0)

    def _bring_back(self) -> None:
        killed = self.fleet.all.pop("a")
        killed.close()
        self.relay = FaultyRelay(self.broker.port)
        self._relays.append(self.relay)
        self.join("a", self.relay.url)

    def finish(self) -> None:
        """End the job, and check that it ended as if nothing had happened."""
        detail = self.fleet.finish(self.hub, self.job)
        assert detail.summary.phase == "done"
        assert self.hub.accepted(self.job) == [(1, "a"), (1, "b")]
        kinds = [one.kind for one in self.hub.events(self.job)]
        assert kinds.count("Combined") == kinds.count("Published") == 1
        grown = hub_peak_bytes(self.hub) - self._peak_before
        assert grown <= MEMORY_BYTES, f"the hub's memory grew by {grown} bytes"
        assert_said_once(self.log)

    def adapter(self) -> dict[str, bytes]:
        """Return the tensors of the adapter that the hub hands out, by file."""
        target = self.hub.folder / f"{self.job}.zip"
        with HubClient(self.hub.url) as client:
            client.adapter(self.job, target)
        archive = zipfile.ZipFile(target)
        return {name: archive.read(name) for name in archive.namelist() if "safetensors" in name}


def hub_peak_bytes(hub: HubProcess) -> int:
    """Return the greatest resident memory of the hub's present process."""
    with HubClient(hub.url) as client:
        peak = client.status().peak_bytes
    assert peak is not None
    return peak


def assert_said_once(log: str) -> None:
    """Check that no line stands there again and again, with other numbers, say."""
    lines = [re.sub(r"[0-9a-f]{8,}|[0-9.]+", "#", line[9:]) for line in log.splitlines()]
    (most, count) = Counter(lines).most_common(1)[0]
    assert count <= MOST_ALIKE, f"{count} times: {most}"


def some_byte(seed: int) -> int:
    """Return a byte of an update or of a start's broadcast, by seed."""
    return random.Random(seed).randrange(RAW_BYTES)
