"""A device with several accelerators: its worker is started by ``accelerate launch``."""

import importlib.util
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.errors import UsageError

#: Kinds of `accelerate config`: every process holds the whole base, or a part of each block.
_KINDS = ("MULTI_GPU", "FSDP")


class Silo(msgspec.Struct, frozen=True, kw_only=True):
    """How the processes of a worker are started.

    Attributes:
        config: file of ``accelerate config``.
        processes: how many.
    """

    config: str
    processes: int


def read_silo(path: Path) -> Silo:
    """Check a configuration of accelerate, before a worker is started with it.

    Args:
        path: as ``accelerate config`` writes it.

    Raises:
        UsageError: accelerate is not installed, or the file can't be used.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise UsageError("--accelerate-config needs accelerate. Run: pip install accelerate")
    import yaml  # the supervisor imports this file, too, and has no use for YAML

    try:
        found: Any = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(f"--accelerate-config is {path}; it can't be read: {reason}.") from error
    except yaml.YAMLError as error:
        raise UsageError(f"--accelerate-config is {path}, which is not YAML.") from error
    if not isinstance(found, dict):
        raise UsageError(f"--accelerate-config is {path}, without settings. Run accelerate config.")
    processes, machines = found.get("num_processes"), found.get("num_machines", 1)
    if not isinstance(processes, int) or isinstance(processes, bool) or processes < 1:
        raise UsageError(f"num_processes in {path} is {processes!r}; must be 1 or more.")
    if machines != 1:
        raise UsageError(f"num_machines in {path} is {machines!r}; a device is one machine.")
    kind = found.get("distributed_type")
    if kind not in _KINDS:
        raise UsageError(
            f"distributed_type in {path} is {kind!r}; known here are {', '.join(_KINDS)}."
        )
    if kind == "FSDP":
        _check_fsdp(path, found.get("fsdp_config"))
    return Silo(config=str(path.absolute()), processes=processes)


def _check_fsdp(path: Path, found: Any) -> None:
    settings = found if isinstance(found, dict) else {}
    version = settings.get("fsdp_version")
    if version != 2:  # 1 makes one tensor of a block, in which adapters have no place
        raise UsageError(f"fsdp_version in {path} is {version!r}; must be 2.")
    if settings.get("fsdp_offload_params"):
        raise UsageError(
            f"fsdp_offload_params in {path} is on. Set it to false; a base that does not fit is "
            "streamed from its file in place of that."
        )
