"""A job and a fleet to schedule."""

from collections.abc import Callable
from typing import Any

import pytest

from hub.scheduling.contract import DeviceView, JobView
from wire.messages import RungPlan

CODECS = {"raw": 32.0, "bf16": 16.0, "int8": 8.5, "entropy": 1.25}


@pytest.fixture
def make_job() -> Callable[..., JobView]:
    """Return a function that makes a job: 10 steps, rank 16, 100,000 numbers a rank."""

    def make(**changes: Any) -> JobView:
        values: dict[str, Any] = {
            "job": "j",
            "rounds": 5,
            "cohort_min": 1,
            "cohort_max": 10,
            "steps": 10,
            "rank": 16,
            "codecs": CODECS,
            "lora_parameters_per_rank": 100_000,
            "prompt_parameters": 1_000,
        }
        return JobView(**{**values, **changes})

    return make


@pytest.fixture
def make_device() -> Callable[..., DeviceView]:
    """Return a function that makes a device; by default LoRA of rank 8 in 612 of 750 MB."""

    def make(device: str, role: str = "lora", rank: int = 8, **changes: Any) -> DeviceView:
        plan: dict[str, Any] = {
            "role": role,
            "rung": "streamed",
            "rank": rank,
            "batch": 4,
            "seq_len": 128,
            "predicted_peak_bytes": 612_000_000,
            "fits": True,
        }
        plan.update({key: changes.pop(key) for key in list(changes) if key in plan})
        plan.update({key: changes.pop(key) for key in ("missing_bytes",) if key in changes})
        values: dict[str, Any] = {
            "id": device,
            "plan": RungPlan(**plan),
            "codecs": tuple(CODECS),
            "memory_limit_bytes": 750_000_000,
        }
        return DeviceView(**{**values, **changes})

    return make
