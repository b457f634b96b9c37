from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.hub.api.served import MemoryHub, serving


@pytest.fixture
def hub(tmp_path: Path) -> MemoryHub:
    return MemoryHub(tmp_path)


@pytest.fixture
def client(hub: MemoryHub) -> Iterator[httpx.Client]:
    with serving(hub) as url, httpx.Client(base_url=url, trust_env=False) as made:
        yield made
