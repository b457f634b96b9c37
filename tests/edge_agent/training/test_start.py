"""Where a task starts from: a hub's files, or a fresh adapter."""

import numpy as np
import pytest

from edge_agent.errors import AdapterError
from edge_agent.training.start import FreshStart, PackedStart, leading, trailing


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_slices_are_put_together_and_split_again(llama, make_adapter, slices):
    saved = make_adapter(llama, rank=5, slices=slices)
    start = PackedStart(saved.manifest, saved.parts)
    for name in ("model.layers.0.mlp.up_proj.lora_A", "model.layers.1.self_attn.v_proj.lora_B"):
        whole = saved.tensors[name]
        np.testing.assert_array_equal(start.factor(name), whole)
        axis = 0 if name.endswith("A") else 1
        np.testing.assert_array_equal(leading(start, name, 2), np.split(whole, [2], axis)[0])
        np.testing.assert_array_equal(trailing(start, name, 2), np.split(whole, [2], axis)[1])
    np.testing.assert_array_equal(start.prompt(), saved.tensors["prompt"])
    assert (start.rank, start.tokens, start.hidden_size) == (5, 3, 32)


def test_leading_slices_alone_are_an_adapter_of_lower_rank(llama, make_adapter):
    saved = make_adapter(llama, rank=5, slices=3)  # of 2, 2 and 1 components
    slices = saved.manifest.lora_slices()
    parts = {sha256: path for sha256, path in saved.parts.items() if sha256 != slices[2].sha256}
    start = PackedStart(saved.manifest, parts, components=4)
    assert start.rank == 4
    name = "model.layers.0.mlp.up_proj.lora_A"
    np.testing.assert_array_equal(start.factor(name), saved.tensors[name][:4])
    with pytest.raises(AdapterError, match="was not given"):
        PackedStart(saved.manifest, parts)


def test_a_broken_part_is_noticed_before_anything_is_placed(llama, make_adapter):
    saved = make_adapter(llama, rank=2)
    for path in saved.parts.values():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AdapterError, match="round 1"):
        PackedStart(saved.manifest, saved.parts)


def test_a_fresh_adapter_changes_nothing_and_can_learn():
    shapes = {"model.layers.0.self_attn.q_proj": (6, 4)}
    start = FreshStart(shapes, 3, 2, 4, seed=1)
    down = start.factor("model.layers.0.self_attn.q_proj.lora_A")
    np.testing.assert_allclose(np.linalg.norm(down, axis=1), 1.0, rtol=1e-6)
    assert not start.factor("model.layers.0.self_attn.q_proj.lora_B").any()
    assert start.prompt().shape == (2, 4)
    again = FreshStart(shapes, 3, 2, 4, seed=1)
    np.testing.assert_array_equal(again.factor("model.layers.0.self_attn.q_proj.lora_A"), down)
    other = FreshStart(shapes, 3, 2, 4, seed=2)
    assert (other.factor("model.layers.0.self_attn.q_proj.lora_A") != down).all()
