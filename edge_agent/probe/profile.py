"""All that can be measured of a device."""

from pathlib import Path

import msgspec

from edge_agent.probe.accelerator import Accelerator, accelerator
from edge_agent.probe.battery import Battery, battery
from edge_agent.probe.disk import Disk, disk
from edge_agent.probe.link import Links, links
from edge_agent.probe.machine import Machine, describe_machine
from edge_agent.probe.memory import Memory, memory
from edge_agent.probe.pressure import Pressure, pressure
from edge_agent.probe.thermal import Thermal, thermal
from edge_agent.probe.throttling import Throttling, throttling
from edge_agent.runtimes import present_runtimes
from wire.messages import DataSummary


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a device has. Every field that is None has its reason in its part's ``missing``."""

    machine: Machine
    memory: Memory
    pressure: Pressure
    accelerator: Accelerator
    thermal: Thermal
    throttling: Throttling
    battery: Battery
    disk: Disk
    link: Links
    runtimes: list[str] = []  # that are installed to compute with, the best first
    data: DataSummary | None = None  # of text that was asked about


def profile(state_folder: Path, root: Path = Path("/"), asked_bytes: int | None = None) -> Profile:
    """Return all that can be measured. Never raises: what can't be read is None with a reason.

    Args:
        state_folder: where the agent keeps its files; need not exist.
        root: where ``proc``, ``sys``, ``dev`` and ``etc`` are; another folder in tests.
        asked_bytes: ``--memory``.
    """
    return Profile(
        machine=describe_machine(root),
        memory=memory(root, asked_bytes),
        pressure=pressure(root),
        accelerator=accelerator(root),
        thermal=thermal(root),
        throttling=throttling(root),
        battery=battery(root),
        disk=disk(state_folder),
        link=links(root),
        runtimes=present_runtimes(),
    )
