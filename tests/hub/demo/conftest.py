"""A finished run as the demo would write it, for the tests of report and table."""

from collections.abc import Callable
from typing import Any

import pytest

MIB = 1024**2


def _device(**changes: Any) -> dict[str, Any]:
    return {
        "id": "pi-1",
        "role": "lora",
        "rung": "resident",
        "rank": 8,
        "batch": 4,
        "seq_len": 256,
        "memory_limit_bytes": 500 * MIB,
        "peak_bytes": 450 * MIB,
        "predicted_peak_bytes": 440 * MIB,
        "bytes_up": 610_000,
        "bytes_down": 4_300_000,
        "loss_before": 2.5,
        "loss_after": 2.0,
        "steps": 50,
        "reason": "needs 440 MiB of 500 MiB",
        "packages": ["asyncio"],
    } | changes


def _run(**changes: Any) -> dict[str, Any]:
    return {
        "base_loss": 2.5,
        "heldout_loss": [2.25, 2.0],
        "rounds": 2,
        "seed": 7,
        "seconds": 118.3,
        "hub": {"peak_bytes": 143 * MIB},
        "total_peak_bytes": 2048 * MIB,
        "loss_without_prompt": 2.05,
        "broker": "mosquitto",
        "adapter": "adapter",
        "prompt": "prompt",
        "devices": [
            _device(),
            _device(id="ph-1", role="prompt", rung="streamed", rank=0, packages=["http", "json"]),
            _device(id="ph-2", role="infer", rung="infer", rank=0, steps=0, bytes_up=900),
        ],
        "rounds_detail": [
            {
                "round": number,
                "phase": "published",
                "seconds": 14.2,
                "accepted": 2,
                "heldout_loss": loss,
                "worst_tenth": loss + 0.5,
                "spread": 0.125,
                "members": [
                    {"device": "pi-1", "role": "lora", "steps": 10, "reason": f"ends {number} s"}
                ],
            }
            for number, loss in ((1, 2.25), (2, 2.0))
        ],
        "job": {"job": "demo", "lora": {"rank": 8}, "rounds": 2},
    } | changes


@pytest.fixture
def run() -> Callable[..., dict[str, Any]]:
    """Return a maker of run summaries; keyword arguments replace fields."""
    return _run


@pytest.fixture
def device() -> Callable[..., dict[str, Any]]:
    """Return a maker of one device's summary."""
    return _device
