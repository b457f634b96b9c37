"""In which codec an update travels."""

import pytest

from hub.scheduling.codec_choice import FEW, MANY, choose_codec, update_bytes
from wire.codecs import CODEC_NAMES

HUB = {"raw": 32.0, "bf16": 16.0, "int8": 8.5, "entropy": 1.25}
ALL = ("raw", "bf16", "int8", "entropy")


def choose(
    wanted: str = "auto", device: tuple[str, ...] = ALL, parameters: int = 1_000_000
) -> tuple[str | None, str]:
    return choose_codec(wanted, hub=HUB, device=device, parameters=parameters)


def test_the_two_first_choices_exist() -> None:
    assert {FEW, MANY} <= set(CODEC_NAMES)


def test_many_numbers_are_entropy_coded() -> None:
    assert choose() == ("entropy", "codec entropy: 1000000 numbers")


@pytest.mark.parametrize(("parameters", "codec"), [(4096, "int8"), (4097, "entropy")])
def test_a_few_numbers_take_a_byte_each(parameters: int, codec: str) -> None:
    assert choose(parameters=parameters)[0] == codec


def test_the_job_may_name_the_codec() -> None:
    assert choose("raw") == ("raw", "codec raw: the job says so")


def test_a_named_codec_that_the_device_lacks_is_no_codec() -> None:
    codec, reason = choose("int8", device=("raw", "bf16"))
    assert codec is None
    assert reason == "the job asks for codec int8; the device has bf16, raw"


def test_where_the_first_choice_is_missing_the_nearest_size_is_taken() -> None:
    codec, reason = choose(device=("raw", "int8"))
    assert codec == "int8"  # 8.5 is nearer to 1.25 than 32 is
    assert "the device has no entropy" in reason
    assert choose(device=("raw",))[0] == "raw"


def test_a_biased_codec_is_taken_only_where_the_job_names_it() -> None:
    hub = {**HUB, "topk": 0.3}
    args = {"hub": hub, "device": ("topk", "int8"), "parameters": 10**6, "biased": {"topk"}}
    assert choose_codec("auto", **args)[0] == "int8"  # though 0.3 is nearer to 1.25
    assert choose_codec("topk", **args)[0] == "topk"
    alone = choose_codec("auto", **{**args, "device": ("topk",)})
    assert alone[0] is None


def test_without_a_common_codec_there_is_none() -> None:
    codec, reason = choose(device=("zip",))
    assert codec is None
    assert reason == "no common codec: the device has zip, the hub bf16, entropy, int8, raw"


def test_sizes_are_rounded_up_to_bytes() -> None:
    assert update_bytes(3, 8.5) == 4  # 25.5 bits
    assert update_bytes(1_000_000, 16.0) == 2_000_000
