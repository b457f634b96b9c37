"""What is measured of a worker: that it is measured at all, and how a speed follows from it."""

import json
import subprocess
import sys

import pytest
import torch

from edge_agent.calibration import NARROW, WIDE
from edge_agent.planning.speed import made_bytes, step_flops
from edge_agent.training.blockwise.dequantise import KINDS, plain_dtype
from edge_agent.training.calibrate import (
    calibration_case,
    expand_per_s,
    measure_steps,
    speed_of,
)

#: In a process of its own, where no kernel was compiled yet.
FRESH = """
import json, sys
import msgspec
from edge_agent.training.calibrate import measure

imported = []
found = measure(wide=False, import_resident=lambda: imported.append(b"1" * 64_000_000))
heavy = [name for name in ("transformers", "peft") if name in sys.modules]
print(json.dumps({"measured": msgspec.to_builtins(found), "heavy": heavy, "times": len(imported)}))
"""


def test_steps_on_the_narrow_model_take_time():
    grown_bytes, seconds = measure_steps("f32", NARROW)
    assert grown_bytes >= 0  # whatever ran here before may have compiled all kernels
    assert seconds > 0


def test_a_fresh_worker_measures_all_there_is_room_for():
    ran = subprocess.run(
        [sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(ran.stdout)
    measured = found["measured"]
    assert found["heavy"] == []  # whoever has no room for them must not import them
    assert found["times"] == 1
    assert measured["wide"] is False
    assert "f32" in measured["speeds"]
    assert measured["kernel_bytes"].keys() == measured["speeds"].keys()
    assert all(size > 0 for size in measured["kernel_bytes"].values())
    assert all(one["flops_per_s"] > 0 for one in measured["speeds"].values())
    # torch alone weighs more than this; on top come the 64 MB that were had in place of imports.
    assert measured["lean_bytes"] > 100_000_000
    assert measured["full_bytes"] - measured["lean_bytes"] > 60_000_000


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "f32"])
def test_every_packed_kind_has_a_rate(dtype):
    rates = expand_per_s(dtype)
    assert rates.keys() == {kind for kind in KINDS if plain_dtype(kind) is None}
    assert {"q4_0", "q8_0", "q4_k", "q6_k"} <= rates.keys()
    assert all(rate > 0 for rate in rates.values())


def test_the_narrow_models_operations_by_hand():
    # Width 256, MLP 704, four heads of 64, one of them for keys and values, 4,096 tokens, two
    # blocks; four rows of 256 tokens, rank 16.
    # A block's matrices: q, o 2 · 256², k, v 2 · 64 · 256, MLP 3 · 704 · 256 = 704,512 numbers;
    # out + in: 2 · 512 + 2 · 320 + 3 · 960 = 4,544, with rank 16 72,704.
    # Thrice all but the last matrix (180,224, twice), factors thrice and twice more, attention
    # 256 · 256 · 4.5: 2,113,536 - 180,224 + 363,520 + 294,912 = 2,591,744 a position and block.
    # The head: 2 · 4,096 · 256 for each of 4 · 255 predictions.
    flops = 2 * (1024 * 2 * 2_591_744 + 1020 * 2_097_152)
    assert step_flops(calibration_case(NARROW, 4), "streamed") == flops
    # With no other model to tell them apart by, all of the time is arithmetic's.
    speed = speed_of("f32", {NARROW: flops / 2e11})
    assert speed.flops_per_s == pytest.approx(2e11)
    assert made_bytes(calibration_case(NARROW, 4), "streamed") / speed.made_bytes_per_s < 1e-3


@pytest.mark.parametrize(("kind", "number_bytes"), [("bf16", 2), ("f32", 4)])
@pytest.mark.parametrize(
    ("flops_per_s", "made_bytes_per_s"), [(1e11, 2e9), (4e9, 5e9), (2e12, 3e8)]
)
def test_two_models_tell_arithmetic_from_memory(kind, number_bytes, flops_per_s, made_bytes_per_s):
    # A device of known speed: flops / f + bytes / m seconds on each.
    seconds = {
        hidden: step_flops(calibration_case(hidden, number_bytes), "streamed") / flops_per_s
        + made_bytes(calibration_case(hidden, number_bytes), "streamed") / made_bytes_per_s
        for hidden in (NARROW, WIDE)
    }
    speed = speed_of(kind, seconds)
    assert speed.flops_per_s == pytest.approx(flops_per_s)
    assert speed.made_bytes_per_s == pytest.approx(made_bytes_per_s)


@pytest.mark.parametrize(("narrow_s", "wide_s"), [(0.01, 1.0), (0.5, 0.1), (0.1, 0.1)])
def test_times_that_no_device_has_give_speeds_that_fit_the_wide_model(narrow_s, wide_s):
    # Solved, one of the two speeds would be negative or without end: the other has all the time.
    speed = speed_of("f32", {NARROW: narrow_s, WIDE: wide_s})
    assert speed.flops_per_s > 0
    assert speed.made_bytes_per_s > 0
    case = calibration_case(WIDE, 4)
    found_s = step_flops(case, "streamed") / speed.flops_per_s
    found_s += made_bytes(case, "streamed") / speed.made_bytes_per_s
    assert found_s == pytest.approx(wide_s, rel=1e-3)
