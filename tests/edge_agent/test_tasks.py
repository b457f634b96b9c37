"""A device takes only what its present plan has room for."""

import msgspec
import pytest

from edge_agent.tasks import allows
from wire.messages import AdapterRef, LocalWork, Offer, RungPlan

PLAN = RungPlan(
    role="lora", rung="resident", rank=8, batch=4, seq_len=256, predicted_peak_bytes=1, fits=True
)
WORK = LocalWork(steps=5, batch=4, seq_len=256, optimizer="adamw", lr=1e-3, seed=7)
OFFER = Offer(
    session="s",
    task="j.1.a",
    job="j",
    round=1,
    kind="train",
    role="lora",
    rung="resident",
    rank=8,
    adapter=AdapterRef(sha256="0" * 64, size_bytes=1),
    base="0" * 64,
    http="http://127.0.0.1:1",
    codec="raw",
    work=WORK,
    deadline_s=60,
)


def test_the_plan_itself_and_anything_smaller_is_taken() -> None:
    assert allows(PLAN, OFFER)
    smaller = msgspec.structs.replace(WORK, batch=2, seq_len=128)
    assert allows(PLAN, msgspec.structs.replace(OFFER, rank=4, work=smaller))


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 9},
        {"role": "prompt"},
        {"work": msgspec.structs.replace(WORK, batch=5)},
        {"work": msgspec.structs.replace(WORK, seq_len=257)},
    ],
)
def test_what_needs_more_is_declined(changes: dict[str, object]) -> None:
    assert not allows(PLAN, msgspec.structs.replace(OFFER, **changes))


def test_whoever_can_do_anything_evaluates_and_who_can_not_does_not() -> None:
    evaluation = msgspec.structs.replace(OFFER, kind="evaluate", work=None)
    infer = msgspec.structs.replace(PLAN, role="infer", rank=0)
    assert allows(infer, evaluation)
    assert not allows(msgspec.structs.replace(PLAN, role="none"), evaluation)
