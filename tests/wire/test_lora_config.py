import json
from pathlib import Path
from typing import Any

import pytest

from wire.errors import MalformedError
from wire.lora_config import LoraConfig, read_config

PLAIN = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "b"}


def read(folder: Path, **changed: Any) -> LoraConfig:
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | changed))
    return read_config(folder)


def test_the_scale_is_alpha_over_r(tmp_path: Path) -> None:
    assert read(tmp_path).scale("model.layers.0.q_proj") == 2.0


def test_rslora_divides_by_the_root_of_the_rank(tmp_path: Path) -> None:
    # Kalajdzievski 2023: alpha / sqrt(r); 12 / sqrt(9).
    assert read(tmp_path, r=9, lora_alpha=12, use_rslora=True).scale("q_proj") == 4.0


def test_patterns_name_the_end_of_a_path_or_match_it(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        rank_pattern={"q_proj": 4, r"model\.layers\.[01]\.v_proj": 2},
        alpha_pattern={"v_proj": 6},
    )
    assert (config.rank("model.layers.7.q_proj"), config.scale("model.layers.7.q_proj")) == (4, 4.0)
    assert (config.rank("model.layers.1.v_proj"), config.scale("model.layers.1.v_proj")) == (2, 3.0)
    # Neither another layer nor a name that only ends alike is meant.
    assert (config.rank("model.layers.2.v_proj"), config.rank("model.xq_proj")) == (8, 8)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "only LORA"),
        ({"use_dora": True}, "use_dora is set"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"init_lora_weights": "pissa_niter_4"}, "may have changed the base"),
        ({"r": 0}, "a rank is 0"),
        ({"rank_pattern": {"q": -1}}, "a rank is -1"),
        ({"rank_pattern": {"(": 2}}, "is none"),
        ({"lora_alpha": "x"}, "can't be read"),
        ({"r": None}, "can't be read"),
    ],
)
def test_what_is_no_plain_lora_is_refused(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(MalformedError, match=r"adapter_config\.json") as caught:
        read(tmp_path, **changed)
    assert words in str(caught.value)


def test_other_ways_to_begin_are_plain(tmp_path: Path) -> None:
    assert read(tmp_path, init_lora_weights="gaussian", modules_to_save=[]).r == 8


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_bytes(b"[" * 100_000)
    with pytest.raises(MalformedError, match="can't be read"):
        read_config(tmp_path)
