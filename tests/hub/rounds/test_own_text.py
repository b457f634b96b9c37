"""What the part ``hub`` of a job file means for a round."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hub.aggregation.rules import product_rule
from hub.jobs import parse_job
from hub.rounds.own_text import own_round
from hub.rounds.state import JobState, RoundRecord

TEXTS = {"public_data": "/p.txt", "validation": "/v.txt"}


def run(keys: str, texts: dict[str, str], **record: float) -> Any:
    file = parse_job(f"job: j\nmodel: {{base: b}}\n{keys}\n")
    return SimpleNamespace(
        name="j", file=file, rule=product_rule(file.rule),
        lr=lambda role: file.prompt.lr if role == "prompt" else file.local.lr,
        spec=SimpleNamespace(texts=texts, seed=2), base=SimpleNamespace(folder=Path("b")),
        desk=SimpleNamespace(folder=Path("state"), adapters=None),
        state=JobState(records=(RoundRecord(round=1, start="s", record=record),)),
    )  # fmt: skip


def test_without_a_text_there_is_nothing_to_do() -> None:
    assert own_round(run("", {}), 1) is None


def test_what_is_not_said_is_as_on_a_device() -> None:
    own = own_round(run("local: {steps: 9, batch: 8, accumulate: 8, lr: 0.5}", TEXTS), 3)
    assert own is not None
    work, local = own.work, own.work.local
    assert (work.role, work.rung, work.public, work.validation) == (
        "lora", "streamed", "/p.txt", "/v.txt",
    )  # fmt: skip
    assert (local.steps, local.batch, local.seq_len, local.lr) == (9, 8, 256, 0.5)
    assert local.seed == 2 * 1_000_003 + 3


def test_what_is_said_holds() -> None:
    keys = "local: {batch: 8, accumulate: 8}\nhub: {public_data: p, steps: 5, batch: 2, lr: 0.1, "
    own = own_round(run(keys + "seq_len: 16, rung: resident, max_s: 7}", TEXTS), 1)
    assert own is not None
    local = own.work.local
    assert (local.steps, local.batch, local.seq_len, local.lr) == (5, 2, 16, 0.1)
    assert local.accumulate == 2, "no more parts than sequences"
    assert (own.work.rung, own.work.max_s) == ("resident", 7)


def test_a_job_of_prompts_trains_the_prompt() -> None:
    own = own_round(run("method: prompt", TEXTS), 1)
    assert own is not None
    assert (own.work.role, own.work.rung, own.work.local.lr) == ("prompt", "prompt", 0.01)


def test_all_weights_are_trained_in_memory() -> None:
    for key, rung in (("", "resident"), ("rung: checkpointed", "checkpointed")):
        own = own_round(run(f"method: full\nhub: {{public_data: p, {key}}}", TEXTS), 1)
        assert own is not None
        assert (own.work.role, own.work.rung, own.work.kind) == ("full", rung, "full")


def test_a_rule_says_what_is_trained_in_which_round() -> None:
    trains = [own_round(run("rule: alternate", TEXTS), at) for at in (1, 2)]
    assert [one.work.trains for one in trains if one] == ["b", "a"]


def test_the_base_is_measured_until_it_is_known() -> None:
    first = own_round(run("", TEXTS), 1)
    second = own_round(run("", TEXTS, validation_base_loss=2.0), 2)
    assert first is not None
    assert second is not None
    assert (first.work.variants, second.work.variants) == (("adapter", "base"), ("adapter",))
