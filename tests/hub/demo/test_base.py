import json
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.demo import base, byte_tokenizer
from hub.demo.base import BaseTrainingError, Recipe, TrainStep, cache_key, cached_base, train

TINY = Recipe(hidden=16, layers=1, mlp=24, heads=2, seq_len=16, batch=2, steps=3, threads=1)


def no_progress(_step: TrainStep) -> None:
    pass


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    assert train(folder, TINY, 60.0, no_progress) == 3
    return folder


def test_the_folder_loads_as_any_hugging_face_model(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(tiny)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny)

    # embedding and head 259*16 each, attention 4*16*16, MLP 3*16*24, norms 3*16
    assert sum(p.numel() for p in model.parameters()) == 2 * 4144 + 1024 + 1152 + 48
    assert tokenizer("Aé").input_ids == [0x41, 0xC3, 0xA9]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (
        256,
        257,
        258,
    )
    assert len(tokenizer) == model.config.vocab_size == 259
    logits = model(input_ids=torch.tensor([tokenizer("abc").input_ids])).logits
    assert logits.shape == (1, 3, 259)


def test_a_vocabulary_may_be_wider_than_the_tokenizer(tmp_path: Path) -> None:
    train(tmp_path, msgspec.structs.replace(TINY, vocabulary=300), 60.0, no_progress)

    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vocab_size"] == 300


def test_the_demo_recipe_has_the_promised_shape() -> None:
    recipe = Recipe()
    block = 4 * recipe.hidden**2 + 3 * recipe.hidden * recipe.mlp + 2 * recipe.hidden
    parameters = 2 * 259 * recipe.hidden + recipe.layers * block + recipe.hidden

    assert parameters == 857_984


def test_the_same_seed_gives_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    train(tmp_path, TINY, 60.0, no_progress)

    again = (tmp_path / "model.safetensors").read_bytes()
    assert again == (tiny / "model.safetensors").read_bytes()


def test_training_stops_at_the_cap(tmp_path: Path) -> None:
    assert train(tmp_path, TINY, 0.0, no_progress) == 1
    assert (tmp_path / "model.safetensors").is_file()


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    seen: list[TrainStep] = []
    recipe = Recipe(
        hidden=16, layers=1, mlp=24, heads=2, seq_len=32, batch=4, steps=60, lr=1e-2, threads=1
    )
    train(tmp_path, recipe, 60.0, seen.append)

    assert [line.step for line in seen] == [20, 40, 60]
    assert seen[-1].loss < seen[0].loss - 0.3


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    recipe = Recipe(steps=100, warmup=10)

    assert base.learning_rate_share(0, recipe) == pytest.approx(0.1)
    assert base.learning_rate_share(50, recipe) == pytest.approx(0.5)
    assert base.learning_rate_share(99, recipe) == pytest.approx(0.01)


def test_two_demos_at_once_train_one_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    trained: list[TrainStep] = []
    found: list[Path] = []
    demos = [
        threading.Thread(target=lambda: found.append(cached_base(trained.append, recipe=TINY)))
        for _ in range(2)
    ]
    for demo in demos:
        demo.start()
    for demo in demos:
        demo.join()

    assert [line.step for line in trained] == [3]  # one training, whose last step is reported
    assert found[0] == found[1] == cached_base(recipe=TINY)
    assert found[0].parent == tmp_path / "lorikeet" / "bases"
    left = {path.name for path in found[0].parent.iterdir()}
    assert left == {found[0].name, found[0].name + ".lock"}
    assert json.loads((found[0] / "config.json").read_text())["model_type"] == "llama"


def test_a_training_that_dies_leaves_nothing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'No module named torch' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sys.executable", os.fspath(broken))

    with pytest.raises(BaseTrainingError, match=r"exit code 3: No module named torch"):
        cached_base(recipe=TINY)

    assert [path.suffix for path in (tmp_path / "lorikeet" / "bases").iterdir()] == [".lock"]


def test_another_recipe_or_torch_is_another_base(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache_key(TINY)

    assert first == cache_key(TINY)
    assert first != cache_key(Recipe())
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "9.9.9")
    assert first != cache_key(TINY)


TOKENIZER = byte_tokenizer.tokenizer()


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_is_its_bytes_and_comes_back(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids

    if not any(name in text for name in ("<pad>", "<s>", "</s>")):
        assert ids == list(text.encode())
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_the_letters_are_those_that_tokenizers_uses() -> None:
    from tokenizers import pre_tokenizers

    assert set(byte_tokenizer.letters_of_bytes()) == set(pre_tokenizers.ByteLevel.alphabet())
