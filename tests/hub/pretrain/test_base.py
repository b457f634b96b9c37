"""The base of a job from scratch: made once, the same for the same seed."""

import importlib.util
import json
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from hub.errors import ConfigError, HubError
from hub.hash_cache import HashCache
from hub.job_parts import PretrainPart
from hub.models import load_model
from hub.pretrain.base import pretrain_base

SHAPE = {
    "model_type": "qwen2",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "torch_dtype": "bfloat16",
    "vocab_size": 9,
}


@pytest.fixture
def part(tmp_path: Path) -> PretrainPart:
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    (tmp_path / "text.txt").write_text("".join(topics.values()))
    return PretrainPart(
        config=str(tmp_path), tokenizer_text=str(tmp_path / "text.txt"), vocabulary=400
    )


def test_two_hubs_make_the_same_base_of_a_seed(part: PretrainPart, tmp_path: Path) -> None:
    made = [
        load_model(str(pretrain_base(part, seed, tmp_path / hub, HashCache())), HashCache())
        for hub, seed in (("one", 1), ("two", 1), ("two", 2))
    ]
    assert made[0].digest == made[1].digest
    assert made[0].digest != made[2].digest
    assert made[0].shape.vocab_size == 400
    assert made[0].shape.weight_bytes == 4
    names = {file.path for file in made[0].manifest.files}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_a_base_that_is_there_is_not_made_again(part: PretrainPart, tmp_path: Path) -> None:
    folder = pretrain_base(part, 1, tmp_path / "bases", HashCache())
    (folder / "mark").touch()
    assert pretrain_base(part, 1, tmp_path / "bases", HashCache()) == folder
    assert (folder / "mark").exists()
    (tmp_path / "text.txt").write_text("other text")
    assert pretrain_base(part, 1, tmp_path / "bases", HashCache()) != folder
    assert len(list((tmp_path / "bases").iterdir())) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read"),
        ("{", "is not a JSON object"),
        ('{"model_type": "gpt2"}', "model_type is 'gpt2'"),
        (json.dumps(SHAPE | {"hidden_size": 0}), "hidden_size is 0"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(
    part: PretrainPart, tmp_path: Path, content: str | None, words: str
) -> None:
    (tmp_path / "config.json").unlink()
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=words) as caught:
        pretrain_base(part, 1, tmp_path / "bases", HashCache())
    assert caught.value.path == "pretrain.config"


def test_a_hub_without_tokenizers_says_what_to_install(
    part: PretrainPart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="Install the extra 'hub'") as caught:
        pretrain_base(part, 1, tmp_path / "bases", HashCache())
    assert caught.value.path == "method"


def test_a_base_that_can_not_be_made_leaves_nothing(part: PretrainPart, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SHAPE | {"initializer_range": "wide"}))
    with pytest.raises(HubError, match="exit code 1"):
        pretrain_base(part, 1, tmp_path / "bases", HashCache())
    assert list((tmp_path / "bases").iterdir()) == []
