"""What is refused of a job that trains all weights, before it begins."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from hub.errors import ConfigError, ModelError
from hub.hash_cache import HashCache
from hub.jobs import JobFile, parse_job
from hub.models import BaseModel, load_model
from hub.whole_job import MAX_BLOB_BYTES, check_whole
from tests.system.small_base import write_base


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return load_model(str(write_base(tmp_path / "base")), HashCache())


def job(**settings: Any) -> JobFile:
    return parse_job(json.dumps({"job": "j", "model": {"base": "b"}, "method": "full"} | settings))


def of_size(base: BaseModel, numbers: int) -> BaseModel:
    shape = msgspec.structs.replace(base.shape, parameters=numbers)
    return msgspec.structs.replace(base, shape=shape)


def test_a_base_is_taken_whose_files_hold_what_its_config_says(base: BaseModel) -> None:
    check_whole(job(), base)


def test_a_base_whose_files_name_other_tensors_is_refused(base: BaseModel) -> None:
    save_file({"embed": np.zeros(3, np.float32)}, base.folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"has no tensor model\.embed_tokens\.weight"):
        check_whole(job(), base)
    check_whole(job(method="lora"), base)


def test_the_largest_model_has_two_bytes_a_weight_in_a_blob(base: BaseModel) -> None:
    most = MAX_BLOB_BYTES // 2
    check_whole(job(), of_size(base, most))
    with pytest.raises(ModelError, match=f"{most + 1} numbers.*{MAX_BLOB_BYTES} bytes. Use method"):
        check_whole(job(), of_size(base, most + 1))


def test_a_codec_that_makes_the_updates_too_large_is_refused(base: BaseModel) -> None:
    fits = of_size(base, MAX_BLOB_BYTES // 4)
    check_whole(job(codec="raw"), fits)
    with pytest.raises(ConfigError, match=r"codec is raw.*Use codec auto") as caught:
        check_whole(job(codec="raw"), of_size(base, MAX_BLOB_BYTES // 4 + 1))
    assert caught.value.path == "codec"


def test_control_variates_travel_in_float32(base: BaseModel) -> None:
    plain = {"optimizer": "sgd", "clip": None, "warmup_steps": 0}
    scaffold = job(strategy="scaffold", local=plain)
    check_whole(scaffold, of_size(base, MAX_BLOB_BYTES // 4))
    with pytest.raises(ConfigError, match="its control variates") as caught:
        check_whole(scaffold, of_size(base, MAX_BLOB_BYTES // 4 + 1))
    assert caught.value.path == "strategy"
