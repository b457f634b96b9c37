"""A configuration of accelerate is checked before a worker is started with it."""

from pathlib import Path

import pytest

from edge_agent.errors import UsageError
from edge_agent.silo import Silo, read_silo
from tests.silo_config import write_silo_config


@pytest.mark.parametrize("kind", ["MULTI_GPU", "FSDP"])
def test_a_configuration_tells_the_number_of_processes(tmp_path: Path, kind: str) -> None:
    file = write_silo_config(tmp_path / "accelerate.yaml", kind)
    assert read_silo(file) == Silo(config=str(file), processes=2)


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("MULTI_GPU", "num_processes: 2", "num_processes: 0", "num_processes in .* is 0"),
        ("MULTI_GPU", "num_processes: 2", "", "num_processes in .* is None"),
        ("MULTI_GPU", "num_machines: 1", "num_machines: 2", "a device is one machine"),
        ("MULTI_GPU", "MULTI_GPU", "DEEPSPEED", "'DEEPSPEED'; known here are MULTI_GPU, FSDP"),
        ("MULTI_GPU", "num_processes: 2", "num_processes: [", "not YAML"),
        ("FSDP", "fsdp_version: 2", "fsdp_version: 1", "fsdp_version in .* is 1; must be 2"),
        ("FSDP", "  fsdp_version", "  fsdp_offload_params: true\n  fsdp_version", "is on"),
    ],
)
def test_one_that_can_t_be_used_is_refused_with_the_reason(
    tmp_path: Path, kind: str, old: str, new: str, message: str
) -> None:
    file = write_silo_config(tmp_path / "accelerate.yaml", kind)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=message):
        read_silo(file)


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"\xff\xfe\xff", None])
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "accelerate.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"accelerate\.yaml"):
        read_silo(file)


def test_without_accelerate_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install accelerate"):
        read_silo(write_silo_config(tmp_path / "accelerate.yaml"))
