import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hub.cli import main
from tests.hub.api.served import MemoryHub, serving


class Ended(NamedTuple):
    """How a run of the command line ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; fails if there is anything else."""
        return json.loads(self.out)


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``lorikeet-hub`` as the entry point does."""

    def made(*arguments: str) -> Ended:
        capsys.readouterr()
        code: Any = 0
        try:
            main(list(arguments))
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return Ended(int(code or 0), captured.out, captured.err)

    return made


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryHub]:
    """A hub that the command line finds through LORIKEET_HUB."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr("hub.cli.follow.POLL_S", 0.0)
    made = MemoryHub(folder)
    with serving(made) as url:
        monkeypatch.setenv("LORIKEET_HUB", url)
        yield made
