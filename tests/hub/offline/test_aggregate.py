from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from hub.aggregation.contract import AggregationError
from hub.aggregation.rules import product_rule
from hub.errors import HubError
from hub.offline.aggregate import aggregate
from tests.hub.offline.folders import SHAPES, plain, product, random_factors, write_folder
from wire.errors import MalformedError

Q, DOWN = SHAPES
STACK = product_rule("stack_svd")


def written(folder: Path, target: str) -> NDArray[np.float64]:
    return product(load_file(folder / "adapter_model.safetensors"), target, 1.0)


def test_ranks_and_scales_of_all_kinds_give_the_exact_mean(tmp_path: Path) -> None:
    # 2 and 3 components of q_proj, 1 and 4 of down_proj: 5 hold both sums.
    one = random_factors(1, {Q: 2, DOWN: 1})
    other = random_factors(2, {Q: 3, DOWN: 4})
    folders = [
        write_folder(tmp_path / "one", one, r=2, lora_alpha=4, rank_pattern={"down_proj": 1}),
        write_folder(
            tmp_path / "other", other, r=3, lora_alpha=6, use_rslora=True,
            rank_pattern={DOWN: 4}, alpha_pattern={"down_proj": 5},
        ),
    ]  # fmt: skip
    error = aggregate(folders, [3, 1], STACK, 5, tmp_path / "out")
    scales = {Q: (4 / 2, 6 / 3**0.5), DOWN: (4 / 1, 5 / 4**0.5)}
    for target, (first, second) in scales.items():
        exact = 0.75 * product(one, target, first) + 0.25 * product(other, target, second)
        got = written(tmp_path / "out", target)
        assert np.linalg.norm(got - exact) <= 1e-6 * np.linalg.norm(exact)
    assert error <= 1e-6


def test_the_relative_error_is_that_of_the_truncation(tmp_path: Path) -> None:
    folders = [plain(tmp_path / str(seed), seed=seed, rank=3) for seed in range(4)]
    error = aggregate(folders, [1, 2, 3, 4], STACK, 2, tmp_path / "out")
    away = whole = 0.0
    for target in SHAPES:
        tensors = [load_file(folder / "adapter_model.safetensors") for folder in folders]
        exact = sum(w / 10 * product(t, target, 2.0) for w, t in enumerate(tensors, start=1))
        singular = np.linalg.svd(exact, compute_uv=False)
        away += float(np.square(singular[2:]).sum())  # Eckart and Young 1936
        whole += float(np.square(singular).sum())
    assert error == pytest.approx((away / whole) ** 0.5, rel=1e-6)


def test_the_outcome_is_as_wide_as_asked_for(tmp_path: Path) -> None:
    folder = plain(tmp_path / "a", rank=2)
    assert aggregate([folder], [1], STACK, 7, tmp_path / "out") <= 1e-6
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {t.shape[0] for name, t in tensors.items() if "lora_A" in name} == {7}


def test_adapters_of_zeros_are_no_error(tmp_path: Path) -> None:
    tensors = random_factors(1, dict.fromkeys(SHAPES, 2))
    zeros = {name: t * np.float32("lora_A" in name) for name, t in tensors.items()}
    folder = write_folder(tmp_path / "a", zeros)
    assert aggregate([folder, folder], [1, 1], STACK, 2, tmp_path / "out") == 0.0
    assert not written(tmp_path / "out", Q).any()


def refused(tmp_path: Path, other: Path) -> str:
    with pytest.raises((AggregationError, MalformedError)) as caught:
        aggregate([plain(tmp_path / "one"), other], [1, 1], STACK, 2, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    return str(caught.value)


def test_another_base_is_refused(tmp_path: Path) -> None:
    other = plain(tmp_path / "other", base_model_name_or_path="./elsewhere")
    message = refused(tmp_path, other)
    assert f"{other} was made for another base: base_model_name_or_path is './else" in message


def test_another_revision_is_refused(tmp_path: Path) -> None:
    assert "revision is 'v2'" in refused(tmp_path, plain(tmp_path / "other", revision="v2"))


def test_other_target_modules_are_refused(tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", random_factors(1, {Q: 2}))
    assert f"{tmp_path / 'one'} adapts {DOWN}, {other} doesn't" in refused(tmp_path, other)


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    tensors = random_factors(1, dict.fromkeys(SHAPES, 2), SHAPES | {Q: (12, 9)})
    message = refused(tmp_path, write_folder(tmp_path / "other", tensors))
    assert f"{Q} is 12 × 8 (out × in)" in message
    assert "12 × 9" in message


def test_nan_in_the_last_layer_leaves_nothing_behind(tmp_path: Path) -> None:
    tensors = random_factors(1, dict.fromkeys(SHAPES, 2))
    tensors[f"base_model.model.{DOWN}.lora_A.weight"][0, 0] = np.nan
    assert "NaN" in refused(tmp_path, write_folder(tmp_path / "other", tensors))


def test_a_folder_without_a_configuration_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(HubError, match=r"adapter_config\.json: No such file"):
        aggregate([tmp_path / "empty"], [1], STACK, 2, tmp_path / "out")


def test_many_adapters_hold_no_more_memory_than_few(tmp_path: Path) -> None:
    import tracemalloc

    shapes = {"q": (96, 64)}
    folders = [
        write_folder(tmp_path / str(seed), random_factors(seed, {"q": 16}, shapes), r=16)
        for seed in range(64)
    ]
    peaks = []
    for count in (8, 64):
        tracemalloc.start()
        aggregate(folders[:count], [1] * count, STACK, 16, tmp_path / f"out{count}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]
