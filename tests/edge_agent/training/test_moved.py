"""A base with its weights moved, measured block by block: the losses are transformers'."""

import pytest

from edge_agent.errors import AdapterError
from edge_agent.training.bases import open_base
from edge_agent.training.moved import MovedModel

from .blockwise.families import save_model
from .blockwise.test_passes import batch
from .test_whole import moved_model, start_of


@pytest.mark.parametrize("name", ["llama", "llama biased", "gemma2"])
def test_both_losses_are_transformers_own(name, tmp_path):
    folder = tmp_path / "base"
    model = save_model(name, folder)
    base, start = open_base(folder, "infer"), start_of(folder)
    placed = MovedModel(base, folder, start, rung="infer", work=tmp_path / "moved")
    ids, labels = batch()
    bare = float(model(input_ids=ids, labels=labels).loss.detach())
    moved = float(moved_model(model, start)(input_ids=ids, labels=labels).loss.detach())
    for variant, wanted in (("base", bare), ("adapter", moved), ("without_prompt", moved)):
        found = placed.evaluate_loss(ids, labels, variant)
        assert found.total / found.tokens == pytest.approx(wanted, rel=1e-5)
    assert abs(bare - moved) > 1e-3
    with pytest.raises(AdapterError, match="measured only"):
        placed.backward_loss(ids, labels)
    placed.close()
    assert not (tmp_path / "moved").exists()
    base.close()


def test_weights_of_another_base_are_refused(tmp_path):
    folder = tmp_path / "base"
    save_model("llama", folder)
    start = start_of(folder)
    start.weights["model.norm.weight"] = (31,)
    base = open_base(folder, "infer")
    with pytest.raises(AdapterError, match=r"model\.norm\.weight.*says \[31\]"):
        MovedModel(base, folder, start, rung="infer", work=tmp_path / "moved")
    base.close()
