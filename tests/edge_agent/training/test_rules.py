"""What a job's rule asks of training, on a base in memory and on one in its file."""

import hashlib
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from edge_agent.errors import AgentError
from edge_agent.protocol import Finished, Losses, Work
from edge_agent.training.bases import open_base
from edge_agent.training.contract import Trained
from edge_agent.training.start import PackedStart
from edge_agent.training.task import Tasks
from wire.codecs import by_name
from wire.core_directions import directions
from wire.messages import LocalWork
from wire.tensors import PackedFile, pack
from wire.trained_factors import only_trained, update_shapes

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

IDS = torch.tensor([[5, 250, 7, 99, 41], [100, 3, 3, 8, 0]])
RUNGS = pytest.mark.parametrize("rung", ["resident", "checkpointed", "streamed"])


@pytest.fixture
def place(llama):
    bases = {}

    def place(saved, rung, **what):
        bases[rung] = bases.get(rung) or open_base(llama, rung)
        return bases[rung].place(PackedStart(saved.manifest, saved.parts), Trained(**what))

    yield place
    for base in bases.values():
        base.close()


def gradients(placed):
    loss = placed.backward_loss(IDS, IDS)
    return loss, {name: value.grad.clone() for name, value in placed.trained.items()}


@RUNGS
def test_a_rest_that_is_absent_is_not_there_while_training(place, llama, make_adapter, rung):
    whole = make_adapter(llama, rank=4, tokens=0)
    loss, found = gradients(place(whole, rung, rank=2, rest="absent"))
    # The same components are all that there is where the others are zeros.
    for name, value in whole.tensors.items():
        if name.endswith("lora_B"):
            value[:, 2:] = 0
    small = repacked(whole)
    alone, wanted = gradients(place(small, rung, rank=2, rest="frozen"))
    assert loss.total == pytest.approx(alone.total, rel=1e-6)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


@RUNGS
def test_a_rest_that_is_absent_still_counts_in_an_evaluation(place, llama, make_adapter, rung):
    saved = make_adapter(llama, rank=4, tokens=0)
    frozen, absent = (
        place(saved, rung, rank=2, rest=rest).evaluate_loss(IDS, IDS, "adapter")
        for rest in ("frozen", "absent")
    )
    assert absent == frozen
    placed = place(saved, rung, rank=2, rest="absent")
    trained_on = placed.backward_loss(IDS, IDS)
    assert abs(trained_on.total - absent.total) > 1e-3
    assert placed.evaluate_loss(IDS, IDS, "adapter") == absent


@RUNGS
@pytest.mark.parametrize("factors", ["a", "b"])
def test_one_factor_is_trained_with_the_gradient_that_both_would_have(
    place, llama, make_adapter, rung, factors
):
    saved = make_adapter(llama, rank=4, tokens=0)
    _, both = gradients(place(saved, rung, rank=2))
    placed = place(saved, rung, rank=2, factors=factors)
    _, found = gradients(placed)
    assert found.keys() == only_trained(both, factors).keys()
    assert len(found) == len(both) // 2
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, both[name], rtol=1e-4, atol=1e-6)
    assert placed.update().keys() == found.keys()


def repacked(saved):
    """Return an adapter of the values that ``saved`` has now."""
    data = pack(saved.tensors, by_name("raw"), 0)
    (part,) = saved.manifest.parts
    sha256 = hashlib.sha256(data).hexdigest()
    path = next(iter(saved.parts.values())).with_name(sha256)
    path.write_bytes(data)
    part = msgspec.structs.replace(part, sha256=sha256, size_bytes=len(data))
    manifest = msgspec.structs.replace(saved.manifest, parts=[part])
    return replace(saved, manifest=manifest, parts={sha256: path})


def task(base, saved, folder, **asked):
    data = folder / "private.txt"
    data.write_text("the same words again and again, \n" * 60)
    local = LocalWork(steps=3, batch=2, seq_len=24, optimizer="adamw", lr=0.01, seed=1, **asked)
    return Work(
        task="j.1.d", role="lora", rung="streamed", rank=2, base_folder=str(base),
        manifest=str(saved.manifest_file), parts={s: str(p) for s, p in saved.parts.items()},
        data=[str(data)], codec="raw", out=str(folder / "out"), batch=2, seq_len=24,
        work=local, variants=["adapter"],
    )  # fmt: skip


@pytest.mark.parametrize("factors", ["both", "a", "b"])
def test_an_offers_factors_are_what_the_update_holds(llama, make_adapter, tmp_path, factors):
    saved, events = make_adapter(llama, rank=4), []
    Tasks(events.append, lambda _: False).run(
        task(llama, saved, tmp_path, trains=factors, rest="absent")
    )
    assert isinstance(events[-1], Finished)
    expected = only_trained(saved.manifest.expected_lora(2), factors)
    with PackedFile.open(tmp_path / "out" / "update.safetensors", expected) as packed:
        assert all(np.abs(packed.get(name)).max() > 0 for name in packed.names())
    assert any(isinstance(event, Losses) for event in events)


@pytest.mark.parametrize("asked", [{"trains": "c"}, {"rest": "halved"}])
def test_what_this_version_does_not_know_is_refused(llama, make_adapter, tmp_path, asked):
    saved = make_adapter(llama, rank=4)
    with pytest.raises(AgentError, match="Update the agent"):
        Tasks(lambda _: None, lambda _: False).run(task(llama, saved, tmp_path, **asked))


@RUNGS
def test_a_core_between_the_factors_begins_where_the_adapter_stands(
    place, llama, make_adapter, rung
):
    saved = make_adapter(llama, rank=4, tokens=0)
    whole = place(saved, rung).evaluate_loss(IDS, IDS, "adapter")
    placed = place(saved, rung, rank=2, factors="core")
    assert placed.evaluate_loss(IDS, IDS, "adapter").total == pytest.approx(whole.total, rel=1e-5)
    assert {value.shape for value in placed.trained.values()} == {(2, 2)}
    assert set(placed.trained) == {f"{target}.core" for target in saved.manifest.shapes}
    assert not any(value.any() for value in placed.update().values())


@RUNGS
def test_a_cores_gradient_is_that_of_b_seen_from_its_directions(place, llama, make_adapter, rung):
    saved = make_adapter(llama, rank=4, tokens=0)
    _, of_factors = gradients(place(saved, rung, rank=2, factors="b"))
    placed = place(saved, rung, rank=2, factors="core")
    _, of_cores = gradients(placed)
    for name, gradient in of_cores.items():
        target = name.removesuffix(".core")
        u, _ = directions(saved.tensors[f"{target}.lora_B"][:, :2])
        wanted = torch.from_numpy(u).T @ of_factors[f"{target}.lora_B"]
        torch.testing.assert_close(gradient, wanted, rtol=1e-3, atol=1e-5)


@RUNGS
def test_a_cores_values_are_factors_and_its_update_the_difference(place, llama, make_adapter, rung):
    saved = make_adapter(llama, rank=4, tokens=0)
    placed = place(saved, rung, rank=2, factors="core")
    target = "model.layers.1.mlp.up_proj"
    with torch.no_grad():
        placed.trained[f"{target}.core"][1, 0] += 0.5
    update = placed.update()[f"{target}.core"]
    np.testing.assert_allclose(update, [[0, 0], [0.5, 0]], atol=1e-6)
    u, _ = directions(saved.tensors[f"{target}.lora_B"][:, :2])
    values = placed.values()
    np.testing.assert_allclose(
        values[f"{target}.lora_B"], saved.tensors[f"{target}.lora_B"][:, :2] + u @ update, atol=1e-5
    )
    np.testing.assert_allclose(
        values[f"{target}.lora_A"], saved.tensors[f"{target}.lora_A"][:2], atol=1e-6
    )


def test_the_rung_of_cores_sends_cores(llama, make_adapter, tmp_path):
    saved, events = make_adapter(llama, rank=4), []
    work = msgspec.structs.replace(task(llama, saved, tmp_path, trains="core"), rung="core")
    Tasks(events.append, lambda _: False).run(work)
    expected = update_shapes(saved.manifest.expected_lora(2), "core")
    with PackedFile.open(tmp_path / "out" / "update.safetensors", expected) as packed:
        assert all(np.abs(packed.get(name)).max() > 0 for name in packed.names())
    asked_for_both = msgspec.structs.replace(task(llama, saved, tmp_path), rung="core")
    with pytest.raises(AgentError, match="Update the agent"):
        Tasks(events.append, lambda _: False).run(asked_for_both)
