from pathlib import Path

import pytest

from hub.cli.local_paths import with_local_paths
from hub.jobs import parse_job


def test_a_base_beside_the_job_file_becomes_absolute_and_comments_stay(tmp_path: Path) -> None:
    (tmp_path / "my base").mkdir()
    text = "job: x  # first\nmodel: {base: ./my base}  # second\n"
    changed = with_local_paths(text, tmp_path)
    assert "# first" in changed
    assert "# second" in changed
    assert parse_job(changed).model.base == str(tmp_path / "my base")


@pytest.mark.parametrize("base", ["acme/small-model", "./elsewhere", "''"])
def test_a_base_that_is_not_beside_the_job_file_stays(tmp_path: Path, base: str) -> None:
    text = f"job: x\nmodel: {{base: {base}}}\n"
    assert with_local_paths(text, tmp_path) == text


def test_the_hubs_own_text_beside_the_job_file_becomes_absolute(tmp_path: Path) -> None:
    (tmp_path / "public.txt").touch()
    text = "job: x\nmodel: {base: b}\nhub:\n  public_data: public.txt # it\n  validation: v.txt\n"
    changed = with_local_paths(text, tmp_path)
    part = parse_job(changed).hub
    assert (part.public_data, part.validation) == (str(tmp_path / "public.txt"), "v.txt")
    assert "# it" in changed


def test_what_a_model_from_scratch_is_made_of_becomes_absolute_too(tmp_path: Path) -> None:
    (tmp_path / "shape.json").write_text("{}")
    (tmp_path / "public").mkdir()
    text = "job: x\nmethod: pretrain\npretrain: {config: shape.json, tokenizer_text: ./public}\n"
    part = parse_job(with_local_paths(text, tmp_path)).pretrain
    assert part.config == str(tmp_path / "shape.json")
    assert part.tokenizer_text == str(tmp_path / "public")
