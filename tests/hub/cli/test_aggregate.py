from pathlib import Path

import pytest

from tests.hub.cli.conftest import Run
from tests.hub.offline.folders import plain


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    return [str(plain(tmp_path / str(seed), seed=seed, rank=2 + seed)) for seed in (0, 1)]


def test_two_folders_become_one(run: Run, tmp_path: Path, two: list[str]) -> None:
    out = str(tmp_path / "new" / "both")
    ended = run("aggregate", *two, "--weights", "3,1", "--rule", "stack_svd", "--rank", "16",
                "--out", out, "--json")  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    document = ended.document
    assert document.pop("relative_error") <= 1e-5
    assert document == {"rule": "stack_svd", "rank": 16, "out": out}
    assert sorted(path.name for path in Path(out).iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip


def test_without_a_rank_it_is_the_adapters_highest(
    run: Run, tmp_path: Path, two: list[str]
) -> None:
    ended = run("aggregate", *two, "--out", str(tmp_path / "out"), "--json")
    assert ended.document["rank"] == 3
    assert "rank 3, " in run("aggregate", *two, "--out", str(tmp_path / "again")).out


def test_averaged_factors_are_far_from_the_mean_of_products(
    run: Run, tmp_path: Path, two: list[str]
) -> None:
    ended = run("aggregate", *two, "--rule", "fedit", "--out", str(tmp_path / "out"), "--json")
    assert ended.document["rank"] == 3
    assert ended.document["relative_error"] > 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--weights", "3"), "--weights is '3'; allowed is 2 positive numbers"),
        (("--weights", "3,-1"), "allowed is 2 positive numbers"),
        (("--weights", "3,nan"), "allowed is 2 positive numbers"),
        (("--weights", "a,b"), "allowed is 2 positive numbers"),
        (("--rule", "mean"), "--rule is 'mean'; allowed is"),
        (("--rank", "0"), "--rank"),
        (("--rule", "freeze_a"), "allowed is fedit, flexlora, hetlora, raflora or stack_svd"),
        (("--rule", "hetlora", "--rank", "2"), "keeps the adapters' highest rank, 3"),
    ],
)
def test_options_that_are_wrong_exit_2(
    run: Run, tmp_path: Path, two: list[str], options: tuple[str, ...], words: str
) -> None:
    ended = run("aggregate", *two, "--out", str(tmp_path / "out"), *options)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err


def test_a_folder_that_is_not_there_exits_2(run: Run, tmp_path: Path) -> None:
    assert run("aggregate", str(tmp_path / "none"), "--out", str(tmp_path / "out")).code == 2
    assert run("aggregate", "--out", str(tmp_path / "out")).code == 2


def test_it_overwrites_nothing(run: Run, tmp_path: Path, two: list[str]) -> None:
    ended = run("aggregate", *two, "--out", str(tmp_path))
    assert ended.code == 2
    assert "it exists" in ended.err


def test_adapters_that_do_not_belong_together_exit_1(
    run: Run, tmp_path: Path, two: list[str]
) -> None:
    odd = str(plain(tmp_path / "odd", base_model_name_or_path="elsewhere"))
    ended = run("aggregate", *two, odd, "--out", str(tmp_path / "out"), "--json")
    assert (ended.code, ended.out) == (1, "")
    assert "made for another base" in ended.err


def test_a_folder_that_is_no_adapter_exits_1(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ended = run("aggregate", str(tmp_path / "empty"), "--out", str(tmp_path / "out"))
    assert ended.code == 1
    assert "adapter_config.json" in ended.err
