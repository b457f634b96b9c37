"""A configuration of accelerate for two processes of this machine, with or without GPUs."""

from pathlib import Path


def write_silo_config(file: Path) -> Path:
    """Write it, as ``accelerate config`` does; port 0 takes one that is free."""
    file.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 1\n"
        "num_processes: 2\nmachine_rank: 0\nmain_process_port: 0\nmixed_precision: 'no'\n"
    )
    return file
