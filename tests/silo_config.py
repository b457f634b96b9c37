"""A configuration of accelerate for two processes of this machine, with or without GPUs."""

from pathlib import Path

_FSDP = "fsdp_config:\n  fsdp_version: 2\n  fsdp_reshard_after_forward: true\n"


def write_silo_config(file: Path, kind: str = "MULTI_GPU") -> Path:
    """Write it, as ``accelerate config`` does; port 0 takes one that is free."""
    file.write_text(
        f"compute_environment: LOCAL_MACHINE\ndistributed_type: {kind}\nnum_machines: 1\n"
        "num_processes: 2\nmachine_rank: 0\nmain_process_port: 0\nmixed_precision: 'no'\n"
        + (_FSDP if kind == "FSDP" else "")
    )
    return file
