"""A base and six institutes, small enough that a federation takes seconds."""

import json

import pytest

from bench.learning_runs import Setting
from hub.demo.base import Recipe, train

NAMES = ("chest", "ear", "eye", "heart", "lung", "skin")


@pytest.fixture(scope="session")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Return a base that read some manual, and institutes whose answers differ by one word."""
    base, data = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("data")
    recipe = Recipe(hidden=32, layers=1, mlp=64, heads=2, seq_len=64, steps=20, threads=1)
    train(base, recipe, 60.0, lambda _: None)
    for name in NAMES:
        lines = [
            json.dumps(
                {
                    "prompt": f"Patient {number}?",
                    "response": f"It is the {name}, says doctor {number}.",
                }
            )
            for number in range(40)
        ]
        (data / f"{name}.train.jsonl").write_text("\n".join(lines[:30]))
        (data / f"{name}.test.jsonl").write_text("\n".join(lines[30:]))
    return Setting(
        base=str(base),
        data=str(data),
        rounds=2,
        steps=4,
        batch=4,
        seq_len=48,
        held_out=10,
        glance=2,
    )
