"""Fixtures of the system tests: a hub process of its own, a broker, a fleet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.honest_fleet import Fleet
from tests.system.hub_process import HubProcess
from tests.system.small_base import write_base


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def hub(tmp_path: Path, broker: Any) -> Iterator[HubProcess]:
    folder = tmp_path / "hub"
    folder.mkdir()
    process = HubProcess(folder, broker.url)
    process.start()
    yield process
    process.kill9()


@pytest.fixture
def fleet(broker: Any) -> Iterator[Fleet]:
    fleet = Fleet(broker.url)
    yield fleet
    fleet.close()
