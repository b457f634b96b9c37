"""Who could take part, and in whose turn."""

from collections.abc import Callable
from typing import Any

from hub.scheduling.candidates import find_candidates
from hub.scheduling.contract import DeviceTiming

Make = Callable[..., Any]


def test_devices_are_told_apart_by_what_they_can_do(make_device: Make) -> None:
    found = find_candidates(
        [
            make_device("lora"),
            make_device("prompt", role="prompt", rank=0),
            make_device("infer", role="infer", rank=0),
            make_device("small", role="none", fits=False, missing_bytes=25_000_000),
            make_device("away", ready=False),
            make_device("new", plan=None),
            make_device("tried"),
        ],
        {},
        exclude=["tried"],
        seed=0,
        round_=1,
    )
    assert {one.device.id for one in found.trainers} == {"lora", "prompt"}
    assert [one.device.id for one in found.evaluators] == ["infer"]
    assert found.left_out == {
        "small": "25 MB of memory are missing",
        "away": "not connected",
        "new": "has not said yet which rung it takes in this job",
        "tried": "tried already in this round",
    }


def test_who_served_least_comes_first(make_device: Make) -> None:
    devices = [make_device(name) for name in "abc"]
    history = {"a": DeviceTiming(served=2), "b": DeviceTiming(served=1)}
    found = find_candidates(devices, history, exclude=(), seed=0, round_=1)
    assert [one.device.id for one in found.trainers] == ["c", "b", "a"]


def test_the_draw_among_equals_is_seeded_and_changes_with_the_round(make_device: Make) -> None:
    devices = [make_device(f"d{index}") for index in range(20)]

    def turns(seed: int, round_: int, order: int = 1) -> list[str]:
        found = find_candidates(devices[::order], {}, exclude=(), seed=seed, round_=round_)
        return [one.device.id for one in found.trainers]

    assert turns(7, 1) == turns(7, 1, order=-1)
    assert turns(7, 1) != turns(7, 2)
    assert turns(7, 1) != turns(8, 1)
