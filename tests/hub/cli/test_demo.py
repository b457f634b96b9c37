import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.hub.cli.conftest import Run


@pytest.mark.parametrize("code", [0, 1])
def test_demo_hands_its_options_on_and_exits_as_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    seen: list[dict[str, Any]] = []

    def main(**options: Any) -> int:
        seen.append(options)
        return code

    module = ModuleType("hub.demo.run")
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hub.demo.run", module)
    assert run("demo", "--seed", "7", "--name", "first", "--out", "there", "--json").code == code
    assert seen == [
        {
            "model": None,
            "out": Path("there"),
            "name": "first",
            "rounds": 5,
            "seed": 7,
            "split": "holder",
            "alpha": 0.5,
            "keep": False,
            "as_json": True,
        }
    ]


def test_a_split_that_there_is_not_is_refused(run: Run) -> None:
    outcome = run("demo", "--split", "colour")
    assert outcome.code == 2
    assert "--split is 'colour'; allowed is holder, label" in outcome.err
