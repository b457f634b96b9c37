"""The adapter before round 1: it changes nothing, and every part can learn."""

from collections.abc import Callable

import numpy as np
import pytest

from hub.aggregation.start import lora_start, prompt_start
from wire.manifest import AdapterManifest

MakeManifest = Callable[..., AdapterManifest]


@pytest.fixture
def manifest(make_manifest: MakeManifest) -> AdapterManifest:
    return make_manifest(rank=4, shapes={"q": (6, 9), "tiny": (5, 3)}, tokens=50, hidden=40)


def test_it_has_the_tensors_of_the_manifest(manifest: AdapterManifest) -> None:
    tensors = lora_start(manifest, 7)
    assert {name: value.shape for name, value in tensors.items()} == {
        "q.lora_A": (4, 9), "q.lora_B": (6, 4), "tiny.lora_A": (4, 3), "tiny.lora_B": (5, 4),
    }  # fmt: skip
    assert {name: value.shape for name, value in prompt_start(manifest, 7).items()} == {
        "prompt": (50, 40)
    }
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.float32)}


def test_it_changes_nothing_yet(manifest: AdapterManifest) -> None:
    tensors = lora_start(manifest, 7)
    assert not tensors["q.lora_B"].any()
    assert not tensors["tiny.lora_B"].any()


def test_rows_of_a_are_orthogonal_and_of_unit_length(manifest: AdapterManifest) -> None:
    tensors = lora_start(manifest, 7)
    a = tensors["q.lora_A"]
    np.testing.assert_allclose(a @ a.T, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(tensors["tiny.lora_A"], axis=1), 1, atol=1e-6)


def test_rows_of_many_entries_are_signs_of_unit_length(make_manifest: MakeManifest) -> None:
    a = lora_start(make_manifest(rank=8, shapes={"wide": (5, 256)}), 7)["wide.lora_A"]
    assert set(np.unique(a)) == {-1 / 16, 1 / 16}  # 1 / sqrt(256)
    # The product of two rows is a mean of 256 signs: it deviates by 1/16; six times that is far.
    assert np.abs(a @ a.T - np.eye(8)).max() < 6 / 16


def test_the_seed_and_the_name_fix_it(
    manifest: AdapterManifest, make_manifest: MakeManifest
) -> None:
    first = lora_start(manifest, 7)
    np.testing.assert_array_equal(first["q.lora_A"], lora_start(manifest, 7)["q.lora_A"])
    assert not np.array_equal(first["q.lora_A"], lora_start(manifest, 8)["q.lora_A"])
    twins = lora_start(make_manifest(rank=4, shapes={"q": (6, 9), "k": (6, 9)}), 7)
    assert not np.array_equal(twins["q.lora_A"], twins["k.lora_A"])
    # A layer that is added later doesn't change the others.
    np.testing.assert_array_equal(twins["q.lora_A"], first["q.lora_A"])


def test_the_prompt_has_the_scale_of_fresh_embeddings(manifest: AdapterManifest) -> None:
    prompt = prompt_start(manifest, 7)["prompt"]
    # 2,000 draws at 0.02: the sample's deviation is within 5 % of it, its mean within 0.002.
    assert prompt.std() == pytest.approx(0.02, rel=0.05)
    assert abs(prompt.mean()) < 0.002
    np.testing.assert_array_equal(prompt, prompt_start(manifest, 7)["prompt"])


def test_a_job_without_a_prompt_has_none(make_manifest: MakeManifest) -> None:
    assert prompt_start(make_manifest(rank=2, shapes={"q": (4, 4)}), 7) == {}
