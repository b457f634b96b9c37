"""In which codec an update travels."""

import pytest

from hub.scheduling.codec_choice import choose_codec, update_bytes

HUB = {"raw": 32.0, "bf16": 16.0, "int8": 8.5}
ALL = ("raw", "bf16", "int8")


def choose(
    wanted: str = "auto",
    device: tuple[str, ...] = ALL,
    parameters: int = 1_000_000,
    rate: float | None = None,
) -> tuple[str | None, str]:
    return choose_codec(
        wanted,
        hub=HUB,
        device=device,
        parameters=parameters,
        deadline_s=100.0,
        up_bytes_per_s=rate,
    )


def test_an_unknown_link_takes_bf16() -> None:
    assert choose() == ("bf16", "codec bf16: link unknown")


# bf16 makes 2 MB of a million numbers; 5 % of 100 s are 5 s, so 400 kB/s is the border.
@pytest.mark.parametrize(("rate", "codec"), [(400_000.0, "bf16"), (399_000.0, "int8")])
def test_a_slow_link_takes_int8(rate: float, codec: str) -> None:
    assert choose(rate=rate)[0] == codec


# 16,384 numbers are 64 KiB raw: one chunk.
@pytest.mark.parametrize(("parameters", "codec"), [(16_384, "raw"), (16_385, "bf16")])
def test_a_tiny_update_stays_raw(parameters: int, codec: str) -> None:
    assert choose(parameters=parameters)[0] == codec


def test_the_job_may_name_the_codec() -> None:
    assert choose("raw", rate=1.0) == ("raw", "codec raw: the job says so")


def test_a_named_codec_that_the_device_lacks_is_no_codec() -> None:
    codec, reason = choose("int8", device=("raw", "bf16"))
    assert codec is None
    assert reason == "the job asks for codec int8; the device has bf16, raw"


def test_where_the_first_choice_is_missing_the_nearest_size_is_taken() -> None:
    codec, reason = choose(device=("raw", "int8"))
    assert codec == "int8"  # 8.5 is nearer to 16 than 32 is
    assert "the device has no bf16" in reason
    assert choose(device=("raw",))[0] == "raw"


def test_without_a_common_codec_there_is_none() -> None:
    codec, reason = choose(device=("zip",))
    assert codec is None
    assert reason == "no common codec: the device has zip, the hub bf16, int8, raw"


def test_sizes_are_rounded_up_to_bytes() -> None:
    assert update_bytes(3, 8.5) == 4  # 25.5 bits
    assert update_bytes(1_000_000, 16.0) == 2_000_000
