"""How many slices a device takes: sums by hand."""

import pytest

from edge_agent.slices import SliceChoice, affordable
from wire.manifest import AdapterManifest, AdapterPart, TargetShape

SIZES = (100, 100, 200)


def manifest(round_: int = 1) -> AdapterManifest:
    lora = [
        AdapterPart(
            name="lora", slice=n, rank=rank, sha256=f"{n}" * 64, size_bytes=size, codec="bf16"
        )
        for n, (rank, size) in enumerate(zip((2, 2, 4), SIZES, strict=True))
    ]
    prompt = AdapterPart(name="prompt", sha256="f" * 64, size_bytes=30, codec="bf16")
    return AdapterManifest(
        job="j",
        round=round_,
        base="a" * 64,
        rank=8,
        tokens=2,
        shapes={"q": TargetShape(inputs=16, outputs=16)},
        hidden_size=16,
        parts=[prompt, *lora[::-1]],
    )


class Device:
    def __init__(
        self,
        bytes_per_s: float | None = None,
        left_bytes: int | None = None,
        serves: bool = True,
    ) -> None:
        self.bytes_per_s, self.left_bytes = bytes_per_s, left_bytes
        self.serves = serves
        self.choice = SliceChoice(
            lambda job: job == "j" and self.serves,
            lambda: self.bytes_per_s,
            lambda: self.left_bytes,
        )

    def taken(self, round_: int = 1) -> list[str]:
        parts = self.choice.parts(manifest(round_), lambda part: part.size_bytes)
        return [f"{part.name}-{part.slice}" for part in parts]


@pytest.mark.parametrize(
    ("budget", "count"),
    [(None, 3), (400, 3), (399, 2), (200, 2), (199, 1), (99, 1), (-5, 1)],
)
def test_as_many_as_fit_and_at_least_the_first(budget: float | None, count: int) -> None:
    assert affordable(SIZES, budget) == count


def test_who_trains_takes_all_however_slow_the_link() -> None:
    device = Device(bytes_per_s=1.0, serves=False)
    device.choice.offered("j", 10)
    assert device.taken() == ["lora-0", "lora-1", "lora-2", "prompt-0"]
    assert device.choice.heard(["j"]) is None


def test_who_serves_takes_what_comes_in_half_of_its_time() -> None:
    # 47 bytes a second for 10 s, and half of that: 235. The prompt takes 30, two slices 200.
    device = Device(bytes_per_s=47)
    device.choice.offered("j", 10)
    assert device.taken() == ["lora-0", "lora-1", "prompt-0"]
    assert device.choice.heard(["j"]) == 2


def test_an_adapter_takes_at_most_a_tenth_of_what_is_left_of_the_day() -> None:
    device = Device(bytes_per_s=1e9, left_bytes=2299)  # 229.9 less the prompt's 30: one slice
    device.choice.offered("j", 10)
    assert device.taken() == ["lora-0", "prompt-0"]


def test_a_link_that_was_never_measured_is_not_spared() -> None:
    device = Device()
    device.choice.offered("j", 10)
    assert len(device.taken()) == 4


def test_before_the_first_task_a_minute_is_reckoned_with() -> None:
    # 10 bytes a second for 60 s, and half of that: 300. The prompt takes 30, two slices 200.
    assert Device(bytes_per_s=10).taken() == ["lora-0", "lora-1", "prompt-0"]


def test_a_choice_holds_for_its_round() -> None:
    device = Device(bytes_per_s=47)
    device.choice.offered("j", 10)
    assert len(device.taken(1)) == 3
    device.bytes_per_s = 1e9  # half of it has come by now
    assert len(device.taken(1)) == 3
    assert len(device.taken(2)) == 4


def test_a_device_that_begins_to_train_takes_the_rest() -> None:
    device = Device(bytes_per_s=1)
    device.choice.offered("j", 10)
    assert len(device.taken()) == 2
    device.serves = False
    assert len(device.taken()) == 4


def test_one_job_that_wants_all_is_heard_whole() -> None:
    device = Device(bytes_per_s=47)
    device.choice.offered("j", 10)
    device.taken()
    assert device.choice.heard(["j", "another"]) is None
    assert device.choice.heard([]) is None
