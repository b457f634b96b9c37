"""Devices laid out below a temporary folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.edge_agent.probe.recorded import lay_out, recorded


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Path]:
    """Return a function that writes files; those in ``bin`` are the only programs there are."""

    def write(files: dict[str, str]) -> Path:
        root = lay_out(tmp_path / "device", files)
        monkeypatch.setenv("PATH", str(root / "bin"))
        return root

    return write


@pytest.fixture
def device(tree: Callable[[dict[str, str]], Path]) -> Callable[[str], Path]:
    """Return a function that lays out a device of ``trees/``."""
    return lambda name: tree(recorded(name))
