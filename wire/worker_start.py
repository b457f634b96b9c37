"""How a worker is started: few threads, predictable memory, no network."""

import os
import subprocess
import sys
from pathlib import Path

from wire.victim import offer_to_killer

#: glibc raises this threshold as it goes, and then keeps freed activations in a heap that
#: fragments: a training step that holds 166 MB peaked at 411 MB [measured, glibc 2.36]. Fixed, a
#: freed tensor goes back to the system at once; small models pay with page faults.
_MMAP_THRESHOLD_BYTES = 128 * 1024

#: oneDNN compiles a kernel for each shape of product, about a megabyte each, and torch and oneDNN
#: both keep 1024 of them: every new length of text took 28 MB for good [measured, torch 2.13, AMX].
#: A step has some 35; where lengths vary, they are compiled again once a step, in about 0.1 s.
_KEPT_KERNELS = 48


def worker_environment(threads: int) -> dict[str, str]:
    """Return the whole environment for ``python -m edge_agent.worker``.

    Args:
        threads: for arithmetic; 0 for one on each core.
    """
    settings = {
        "LORIKEET_THREADS": str(threads),
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": str(_MMAP_THRESHOLD_BYTES),
        "MALLOC_TRIM_THRESHOLD_": str(_MMAP_THRESHOLD_BYTES),
        # Fresh pages are what the fixed threshold costs: large ones halve the number of faults.
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        "THP_MEM_ALLOC_ENABLE": "1",
        "LRU_CACHE_CAPACITY": str(_KEPT_KERNELS),
        "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(_KEPT_KERNELS),
        # Threads that wait spin for a moment only, for other agents may share the cores. Not to
        # spin at all costs an eighth of a step; a hundred times as long saves no more [measured].
        "GOMP_SPINCOUNT": "10000",
        # numpy's own threads, for small matrices only, would wait without end.
        "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
        "TOKENIZERS_PARALLELISM": "false",
        # Models come from the hub by their digest, never from elsewhere.
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if threads:
        settings["OMP_NUM_THREADS"] = str(threads)
    return {**os.environ, **settings}


def start_worker(
    threads: int, log_file: Path, accelerate_config: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Start a worker, which takes commands on its standard input and answers on its output.

    It ends by itself when its input does, however its parent came to its end.

    Args:
        threads: for arithmetic; 0 for one on each core.
        log_file: is appended to.
        accelerate_config: starts a worker of several processes, as this file of accelerate says;
            what is returned is their launcher, and with it they end.
    """
    launcher: list[str] = []
    if accelerate_config is not None:
        launcher = ["-m", "accelerate.commands.launch", "--config_file", str(accelerate_config)]
    with log_file.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, *launcher, "-m", "edge_agent.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=worker_environment(threads),
            start_new_session=True,  # Ctrl-C is for its parent, who then ends it
        )
    offer_to_killer(process.pid)
    return process
