"""What an offer tells of the job file's `local` part: every key that has a field there."""

from types import SimpleNamespace
from typing import Any

import msgspec

from hub.aggregation.rules import product_rule
from hub.job_parts import LocalPart
from hub.jobs import parse_job
from hub.rounds import actions
from hub.rounds.offering import Offering
from hub.rounds.state import JobState
from hub.scheduling.contract import Member
from wire.messages import AdapterRef, LocalWork, Offer

TEXT = """
job: notes
model: {base: b}
local:
  {steps: 20, batch: 4, optimizer: sgd, momentum: 0.9, weight_decay: 0.5, lr: 0.1,
  schedule: cosine, warmup_steps: 5, clip: null, accumulate: 2, adversarial: {epsilon: 0.5}}
"""
MEMBER = Member(
    device="ward", kind="train", role="lora", rung="streamed", rank=4, steps=7, batch=2,
    seq_len=64, codec="raw",
)  # fmt: skip


def offered(text: str) -> LocalWork:
    file, sent = parse_job(text), []

    def command(device: str, offer: Offer, expiry_s: int) -> bool:
        sent.append(offer)
        return True

    desk = SimpleNamespace(
        now=lambda: 0.0,
        sessions=SimpleNamespace(devices={"ward": SimpleNamespace(session="s")}),
        command=command,
        http="http://h",
    )
    run: Any = SimpleNamespace(
        desk=desk, file=file, name="notes", state=JobState(), spec=SimpleNamespace(seed=1),
        base=SimpleNamespace(digest="d"), lr=lambda role: file.local.lr,
        task_name=lambda round_, device, candidate: f"notes.{round_}.{device}",
        reference=lambda sha256: AdapterRef(sha256=sha256, size_bytes=1),
        strategy=file.chosen_strategy(), rule=product_rule(file.rule),
    )  # fmt: skip
    Offering(run).offer(actions.Offer(round=1, member=MEMBER, start="a", deadline_ts=60.0))
    assert sent[0].work is not None
    return sent[0].work


def test_a_device_is_told_what_the_job_file_says() -> None:
    work, local = offered(TEXT), parse_job(TEXT).local
    # Steps, batch and length are the member's own.
    assert (work.steps, work.batch, work.seq_len) == (7, 2, 64)
    shared = {field.name for field in msgspec.structs.fields(LocalWork)}
    shared &= {field.name for field in msgspec.structs.fields(LocalPart)}
    for name in sorted(shared - {"steps", "batch", "seq_len"}):
        told, written = getattr(work, name), getattr(local, name)
        assert msgspec.to_builtins(told) == msgspec.to_builtins(written), name
    assert {"momentum", "schedule", "clip", "accumulate", "warmup_steps", "adversarial"} < shared


def test_a_device_is_told_what_the_strategy_asks_for() -> None:
    text = "job: notes\nmodel: {base: b}\nstrategy: fedprox\nserver: {mu: 0.5}"
    assert offered(text).proximal_mu == 0.5


def test_a_job_that_says_nothing_of_it_offers_the_wires_defaults() -> None:
    work = offered("job: notes\nmodel: {base: b}")
    for field in msgspec.structs.fields(LocalWork):
        if not field.required:
            assert getattr(work, field.name) == field.default, field.name
