"""Cores that are moved in torch, and tasks that move them without backprop."""

from array import array

import msgspec
import numpy as np
import pytest
import torch

from edge_agent.errors import AgentError
from edge_agent.protocol import Finished, Losses
from edge_agent.training.bases import open_base
from edge_agent.training.batches import padded
from edge_agent.training.contract import Trained
from edge_agent.training.placed_cores import PlacedCores
from edge_agent.training.start import PackedStart
from edge_agent.training.task import Tasks
from edge_agent.training.tokens import Row
from tests.edge_agent.training.test_rules import repacked, task
from wire.core_directions import directions
from wire.forward_only import VERSION, Moves, parse_steps, replay
from wire.messages import ForwardOnly

IDS = [[5, 250, 7, 99, 41], [100, 3, 3, 8], [9, 9, 4, 1, 30]]
ROWS = [(ids, ids) for ids in IDS]


@pytest.fixture
def base(llama):
    base = open_base(llama, "streamed")
    yield base
    base.close()


def test_a_moved_core_is_the_adapter_whose_b_is_moved(base, llama, make_adapter):
    saved = make_adapter(llama, rank=4, tokens=0)
    start = PackedStart(saved.manifest, saved.parts)
    session = PlacedCores(base.place(start, Trained(rank=2, factors="core")), start, rows=2)
    moves = np.random.default_rng(1).normal(0, 0.2, 4 * len(session.sides)).astype(np.float32)
    before = session.loss(ROWS, np.zeros_like(moves))
    found = session.loss(ROWS, moves)
    for at, target in enumerate(sorted(saved.manifest.shapes)):
        b = saved.tensors[f"{target}.lora_B"]
        u, _ = directions(b[:, :2])
        b[:, :2] += u @ moves[4 * at : 4 * at + 4].reshape(2, 2)
    moved = repacked(saved)
    placed = base.place(PackedStart(moved.manifest, moved.parts), Trained())
    wanted = [placed.evaluate_loss(*padded_rows(some), "adapter") for some in (IDS[:2], IDS[2:])]
    assert found.tokens == before.tokens == 11
    assert found.total == pytest.approx(sum(one.total for one in wanted), rel=1e-5)
    assert abs(found.total - before.total) > 1e-3


def padded_rows(ids):
    return padded([Row(array("i", one), array("i", one)) for one in ids])


def forward_task(llama, saved, folder):
    work = task(llama, saved, folder, trains="core")
    forward = ForwardOnly(version=VERSION, epsilon=0.02, fresh=4, reach=1.0)
    local = msgspec.structs.replace(work.work, steps=16, forward=forward)
    return msgspec.structs.replace(work, role="infer", rung="forward-only", work=local)


def test_a_task_without_backprop_sends_its_steps(llama, make_adapter, tmp_path):
    saved, events = make_adapter(llama, rank=4, tokens=0), []
    work = forward_task(llama, saved, tmp_path)
    Tasks(events.append, lambda _: False).run(work)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert any(isinstance(event, Losses) for event in events)
    data = (tmp_path / "out" / "update.steps").read_bytes()
    assert finished.update == str(tmp_path / "out" / "update.steps")
    steps = parse_steps(data, 16)
    assert len(steps) == 16
    assert finished.train.loss_last < finished.train.loss_first
    moves = replay(work.work.seed, [2] * len(saved.manifest.shapes), steps)
    assert isinstance(moves, Moves)
    assert moves.rms() > 0


def test_no_gradient_is_made(llama, make_adapter, tmp_path, monkeypatch):
    def backward(*_args, **_more):
        raise AssertionError

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    saved = make_adapter(llama, rank=4, tokens=0)
    Tasks(lambda _: None, lambda _: False).run(forward_task(llama, saved, tmp_path))


def test_a_scheme_that_is_not_known_is_refused(llama, make_adapter, tmp_path):
    saved = make_adapter(llama, rank=4, tokens=0)
    work = forward_task(llama, saved, tmp_path)
    local = msgspec.structs.replace(work.work, forward=None)
    with pytest.raises(AgentError, match="Update the older side"):
        Tasks(lambda _: None, lambda _: False).run(msgspec.structs.replace(work, work=local))
