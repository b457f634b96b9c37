"""What an update must be to be accepted; each refusal says why."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hub.aggregation.check import check_update, reach
from hub.aggregation.contract import Array, RefusedUpdateError
from wire.manifest import AdapterManifest
from wire.trained_factors import TRAINS

MakeManifest = Callable[..., AdapterManifest]
Write = Callable[..., Path]


@pytest.fixture
def manifest(make_manifest: MakeManifest) -> AdapterManifest:
    return make_manifest(rank=2, shapes={"q": (4, 3)}, tokens=2, hidden=3)


def lora(rank: int = 2, value: float = 0.5) -> dict[str, Array]:
    return {
        "q.lora_A": np.full((rank, 3), value, np.float32),
        "q.lora_B": np.full((4, rank), value, np.float32),
    }


def check(update: Path | bytes, manifest: AdapterManifest, rank: int = 2, rms: float = 1) -> None:
    check_update(update, "lora", manifest, rank=rank, codec="raw", max_rms=rms)


def test_an_update_as_offered_is_accepted(manifest: AdapterManifest, write: Write) -> None:
    check(write("full", lora()), manifest)
    check(write("lower", lora(rank=1)), manifest, rank=1)
    check(write("bytes", lora()).read_bytes(), manifest)


def test_a_prompt_as_offered_is_accepted(manifest: AdapterManifest, write: Write) -> None:
    blob = write("p", {"prompt": np.full((2, 3), 0.5, np.float32)}, "int8")
    check_update(blob, "prompt", manifest, rank=0, codec="int8", max_rms=1)


def test_nothing_learnt_is_accepted(manifest: AdapterManifest, write: Write) -> None:
    check(write("zero", lora(value=0)), manifest)


@pytest.mark.parametrize("rank", [0, 3])
def test_a_rank_that_the_adapter_lacks_is_refused(
    manifest: AdapterManifest, write: Write, rank: int
) -> None:
    with pytest.raises(RefusedUpdateError, match=f"rank is {rank}"):
        check(write("x", lora()), manifest, rank=rank)


def test_factors_of_another_rank_are_refused(manifest: AdapterManifest, write: Write) -> None:
    with pytest.raises(RefusedUpdateError, match="malformed"):
        check(write("x", lora(rank=1)), manifest, rank=2)


def test_missing_and_foreign_tensors_are_refused(manifest: AdapterManifest, write: Write) -> None:
    foreign = lora() | {"k.lora_A": np.zeros((2, 3), np.float32)}
    missing = {"q.lora_A": lora()["q.lora_A"]}
    for name, tensors in (("foreign", foreign), ("missing", missing)):
        with pytest.raises(RefusedUpdateError, match="malformed"):
            check(write(name, tensors), manifest)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_no_numbers_are_refused(
    manifest: AdapterManifest, write: Write, value: float
) -> None:
    # `pack` refuses to write one, so the last float32 on disk is overwritten.
    blob = write("x", lora()).read_bytes()[:-4] + np.float32(value).tobytes()
    with pytest.raises(RefusedUpdateError, match="NaN or infinite"):
        check(blob, manifest)


def test_a_tensor_out_of_all_proportion_is_refused(manifest: AdapterManifest, write: Write) -> None:
    # Entries of 0.5 and −0.5 have a root mean square of 0.5.
    tensors = lora()
    tensors["q.lora_B"][::2] *= -1
    blob = write("x", tensors)
    check(blob, manifest, rms=0.51)
    with pytest.raises(RefusedUpdateError, match=r"q\.lora_A moved by 0\.5 "):
        check(blob, manifest, rms=0.49)


def test_one_huge_entry_is_refused(manifest: AdapterManifest, write: Write) -> None:
    # Its square exceeds float32: (3e38)² = 9e76.
    tensors = lora(value=0)
    tensors["q.lora_B"][0, 0] = 3e38
    with pytest.raises(RefusedUpdateError, match="moved by"):
        check(write("x", tensors), manifest)


def test_another_codec_than_offered_is_refused(manifest: AdapterManifest, write: Write) -> None:
    with pytest.raises(RefusedUpdateError, match="'raw' was offered"):
        check(write("x", lora(), "int8"), manifest)


def test_an_update_of_a_part_that_the_job_lacks_is_refused(
    make_manifest: MakeManifest, write: Write
) -> None:
    no_prompt = make_manifest(rank=2, shapes={"q": (4, 3)})
    with pytest.raises(RefusedUpdateError, match="no prompt part"):
        check_update(write("x", lora()), "prompt", no_prompt, rank=0, codec="raw", max_rms=1)


def test_a_blob_that_was_cut_off_is_refused(manifest: AdapterManifest, write: Write) -> None:
    with pytest.raises(RefusedUpdateError, match="malformed"):
        check(write("x", lora()).read_bytes()[:-1], manifest)
    with pytest.raises(RefusedUpdateError, match="malformed"):
        check(b"", manifest)


def test_the_reach_is_ten_times_that_of_the_steps() -> None:
    # 20 steps at 0.001 move an entry by 0.02 under Adam.
    assert reach(lr=1e-3, steps=20) == pytest.approx(0.2)


def test_only_what_was_to_be_trained_is_accepted(manifest: AdapterManifest, write: Write) -> None:
    held = {
        "a": {"q.lora_A": lora()["q.lora_A"]},
        "b": {"q.lora_B": lora()["q.lora_B"]},
        "core": {"q.core": np.full((2, 2), 0.5, np.float32)},
        "both": lora(),
    }
    for trains in TRAINS:
        for name, tensors in held.items():
            blob = write(name, tensors)
            if name == trains:
                check_update(blob, "lora", manifest, rank=2, codec="raw", max_rms=1, trains=trains)
            else:
                with pytest.raises(RefusedUpdateError, match="malformed"):
                    check_update(
                        blob, "lora", manifest, rank=2, codec="raw", max_rms=1, trains=trains
                    )
