"""A task without a hub: what it writes is what PEFT loads, and what it tells is true."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file

from edge_agent.errors import AgentError, DataError, ModelError
from edge_agent.protocol import Counted, Event, Losses, Progress, TrainedLocal, TrainLocal
from edge_agent.training.bases import open_base
from edge_agent.training.drawn import held_out_rows
from edge_agent.training.errors import PausedError
from edge_agent.training.local import train_local
from edge_agent.training.tokens import Row
from tests.edge_agent.training.blockwise.gguf_models import write_gguf
from wire.messages import DataSummary, LocalWork

# PEFT 0.21 reads a property that transformers 5.23 renamed, and calls a method that it will.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is:FutureWarning"),
]

SEQ_LEN = 48
RUNGS = ["resident", "checkpointed", "streamed", "core"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "private.jsonl"
    lines = [json.dumps({"text": f"{n} birds flew over {n * n} hills."}) for n in range(60)]
    lines += [json.dumps({"prompt": f"How many? {n}", "response": f"{n}!"}) for n in range(20)]
    file.write_text("\n".join([*lines, '{"text": "brok']))
    return file


@pytest.fixture
def order(tmp_path: Path, data: Path, llama: Path) -> TrainLocal:
    """Return a task on the rung that holds the base in memory."""
    out = tmp_path / "adapter"
    return TrainLocal(
        task="train",
        role="lora",
        rung="resident",
        rank=4,
        model=str(llama),
        data=[str(data)],
        out=str(out),
        work=LocalWork(steps=4, batch=2, seq_len=SEQ_LEN, optimizer="adamw", lr=1e-2, seed=5),
        checkpoint=str(out / "checkpoint.safetensors"),
    )


def run(
    command: TrainLocal, pause_asked: Callable[[str], bool] = lambda _: False
) -> tuple[TrainedLocal, dict[str, float], list[Event]]:
    """Return the end, the held-out losses by variant, and all events."""
    events: list[Event] = []
    train_local(command, events.append, pause_asked)
    ended = events[-1]
    assert isinstance(ended, TrainedLocal)
    told = [event.evaluations[0] for event in events if isinstance(event, Losses)]
    return ended, {one.variant: one.loss for one in told}, events


def pausing_after(steps: int) -> Callable[[str], bool]:
    asked = itertools.count()
    return lambda _: next(asked) >= steps  # asked once before the first step, and after each


def other(command: TrainLocal, **changes: Any) -> TrainLocal:
    return msgspec.structs.replace(command, **changes)


def loss_by_transformers(model: Any, rows: Sequence[Row], front: int = 0) -> float:
    """Return the mean loss per predicted token; ``front`` logits belong to a soft prompt."""
    total, tokens = 0.0, 0
    for row in rows:
        ids, labels = torch.tensor([list(row.ids)]), torch.tensor(list(row.labels))
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, front:]
        wanted = labels[1:]
        loss = torch.nn.functional.cross_entropy(logits[:-1].float(), wanted, reduction="sum")
        total, tokens = total + float(loss), tokens + int((wanted != -100).sum())
    return total / tokens


def held_out(command: TrainLocal) -> list[Row]:
    base = open_base(Path(command.model), "resident")
    return held_out_rows(base.encoder, command.data, SEQ_LEN)


def loaded(command: TrainLocal) -> Any:
    base = transformers.AutoModelForCausalLM.from_pretrained(command.model, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(base, command.out).eval()


@pytest.mark.parametrize("rung", RUNGS)
def test_peft_loads_the_adapter_and_finds_the_loss_that_was_told(
    order: TrainLocal, rung: str
) -> None:
    _, losses, _ = run(other(order, rung=rung))
    model, rows = loaded(order), held_out(order)
    assert loss_by_transformers(model, rows) == pytest.approx(losses["adapter"], rel=1e-4)
    with model.disable_adapter():
        assert loss_by_transformers(model, rows) == pytest.approx(losses["base"], rel=1e-4)
    assert losses["adapter"] < losses["base"]


def test_peft_loads_the_soft_prompt_and_finds_the_loss_that_was_told(order: TrainLocal) -> None:
    task = other(order, role="prompt", rung="prompt", rank=0, prompt_tokens=3)
    _, losses, _ = run(task)
    found = loss_by_transformers(loaded(task), held_out(order), front=3)
    assert found == pytest.approx(losses["adapter"], rel=1e-4)
    assert losses["adapter"] != losses["base"]


def test_peft_loads_the_prefix_and_finds_the_loss_that_was_told(order: TrainLocal) -> None:
    # Steps so large that the keys come to matter, and with them the positions they are seen from.
    work = msgspec.structs.replace(order.work, lr=1.0)
    task = other(
        order,
        role="prompt",
        rung="prompt",
        rank=0,
        prompt_tokens=3,
        prompt_kind="prefix",
        work=work,
    )
    _, losses, _ = run(task)
    found = loss_by_transformers(loaded(task), held_out(order))
    assert found == pytest.approx(losses["adapter"], rel=1e-4)
    bare = transformers.AutoModelForCausalLM.from_pretrained(order.model, dtype=torch.float32)
    assert loss_by_transformers(bare, held_out(order)) == pytest.approx(losses["base"], rel=1e-4)


def test_a_streamed_and_a_resident_run_learn_the_same(order: TrainLocal) -> None:
    resident, before, _ = run(order)
    streamed, before_streamed, _ = run(other(order, rung="streamed"))
    assert len(resident.losses) == 4
    np.testing.assert_allclose(streamed.losses, resident.losses, atol=1e-3)
    assert before_streamed == pytest.approx(before, abs=1e-3)


def test_an_adapter_of_a_gguf_file_is_one_of_the_model_it_was_made_from(
    order: TrainLocal, tmp_path: Path, write_tokenizer: Callable[..., None]
) -> None:
    (tmp_path / "gguf").mkdir()
    write_tokenizer(tmp_path / "gguf")
    model = transformers.AutoModelForCausalLM.from_pretrained(order.model, dtype=torch.float32)
    write_gguf(model, tmp_path / "gguf" / "base.gguf")
    task = other(order, rung="streamed", model=str(tmp_path / "gguf" / "base.gguf"))
    _, losses, _ = run(task)
    found = loss_by_transformers(loaded(other(task, model=order.model)), held_out(order))
    assert found == pytest.approx(losses["adapter"], rel=1e-4)
    assert losses["adapter"] < losses["base"]


def test_the_same_seed_gives_the_same_adapter(order: TrainLocal, tmp_path: Path) -> None:
    first, _, _ = run(order)
    again, _, _ = run(other(order, out=str(tmp_path / "again")))
    another, _, _ = run(
        other(
            order,
            out=str(tmp_path / "another"),
            work=msgspec.structs.replace(order.work, seed=6),
        )
    )
    assert first.losses == again.losses != another.losses
    values, same = (
        load_file(Path(one.adapter) / "adapter_model.safetensors") for one in (first, again)
    )
    for name, value in values.items():
        np.testing.assert_array_equal(value, same[name])


def test_every_step_has_its_loss_and_its_time(order: TrainLocal) -> None:
    ended, _, events = run(order)
    steps = [e for e in events if isinstance(e, Progress) and e.stage == "train" and e.step]
    assert [step.loss for step in steps] == ended.losses
    assert len(ended.seconds) == len(ended.losses) == 4
    assert min(ended.seconds) > 0
    # One number each: all tokens of a row but the first are predicted, two rows a step.
    assert 0 < steps[0].tokens_per_step <= 2 * (SEQ_LEN - 1)


def test_what_text_there_is_is_told_in_numbers(order: TrainLocal) -> None:
    _, _, events = run(order)
    counted = events[0]
    assert isinstance(counted, Counted)
    assert (counted.data.examples, counted.data.skipped) == (80, 1)
    assert 0 < counted.data.held_out < 20


def test_no_text_is_in_any_event(order: TrainLocal) -> None:
    _, _, events = run(order)
    said = b"".join(msgspec.json.encode(event) for event in events)
    assert b"birds" not in said
    assert b"How many" not in said


def test_without_held_out_text_there_is_no_held_out_loss(order: TrainLocal, tmp_path: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text(json.dumps({"text": "four and twenty blackbirds in a pie"}))
    ended, losses, events = run(other(order, data=[str(few)]))
    assert isinstance(events[0], Counted)
    assert events[0].data == DataSummary(examples=1, held_out=0, skipped=0)
    assert losses == {}
    assert len(ended.losses) == 4


def test_a_paused_task_goes_on_to_the_same_end(order: TrainLocal, tmp_path: Path) -> None:
    whole, losses, _ = run(other(order, out=str(tmp_path / "whole")))
    with pytest.raises(PausedError) as paused:
        run(order, pausing_after(2))
    assert paused.value.step == 2
    assert not (Path(order.out) / "adapter_config.json").exists()
    resumed, losses_resumed, _ = run(order)
    assert resumed.losses == whole.losses
    assert len(resumed.seconds) == 2
    assert losses_resumed == losses
    assert not Path(order.checkpoint).exists()


def test_a_lower_rung_goes_on_with_what_a_higher_one_learnt(order: TrainLocal) -> None:
    with pytest.raises(PausedError):
        run(order, pausing_after(2))
    resumed, _, _ = run(other(order, rung="streamed"))
    assert (len(resumed.losses), len(resumed.seconds)) == (4, 2)


def test_a_state_of_another_task_is_not_taken_up(order: TrainLocal) -> None:
    with pytest.raises(PausedError):
        run(order, pausing_after(2))
    ended, _, _ = run(other(order, work=msgspec.structs.replace(order.work, seed=6)))
    assert len(ended.seconds) == 4


def test_a_model_that_is_none_is_said(order: TrainLocal, tmp_path: Path) -> None:
    for rung in ("resident", "streamed"):
        with pytest.raises(ModelError, match=str(tmp_path)):
            run(other(order, model=str(tmp_path), rung=rung))


def test_data_without_an_example_is_said_without_any_of_it(
    order: TrainLocal, tmp_path: Path
) -> None:
    (tmp_path / "broken.jsonl").write_text('{"text": "Zyxomancer')
    with pytest.raises(DataError) as caught:
        run(other(order, data=[str(tmp_path / "broken.jsonl")]))
    assert "Zyxomancer" not in str(caught.value)


@pytest.mark.parametrize(("role", "rung"), [("infer", "infer"), ("prompt", "resident")])
def test_what_can_not_be_trained_is_refused(order: TrainLocal, role: str, rung: str) -> None:
    with pytest.raises(AgentError, match=f"role {role} can't be trained on rung {rung}"):
        run(other(order, role=role, rung=rung))


def test_a_folder_that_can_not_be_written_is_said(order: TrainLocal, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AgentError, match="--out"):
        run(other(order, out=str(tmp_path / "file" / "adapter")))
