"""The environment that a worker is started in."""

import subprocess
import sys
from pathlib import Path

from wire.worker_start import worker_environment

ROOT = Path(__file__).parents[2]


def test_threads_and_allocator_are_set_and_the_rest_is_kept(monkeypatch):
    monkeypatch.setenv("LORIKEET_TEST", "kept")
    found = worker_environment(3)
    assert (found["LORIKEET_THREADS"], found["OMP_NUM_THREADS"]) == ("3", "3")
    assert found["MALLOC_MMAP_THRESHOLD_"] == "131072"
    assert found["HF_HUB_OFFLINE"] == "1"
    assert found["LORIKEET_TEST"] == "kept"


def test_no_number_of_threads_leaves_it_to_the_worker(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = worker_environment(0)
    assert found["LORIKEET_THREADS"] == "0"
    assert "OMP_NUM_THREADS" not in found


def test_numpy_has_one_thread_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert worker_environment(0)["OPENBLAS_NUM_THREADS"] == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    assert worker_environment(0)["OPENBLAS_NUM_THREADS"] == "4"


MANY_SHAPES = """
import os
import torch
from edge_agent.probe.process import resident_bytes

def multiply(rows):
    a, b = torch.ones(rows, 64, dtype=torch.bfloat16), torch.ones(64, 96, dtype=torch.bfloat16)
    return a @ b

for rows in range(100, 160):
    multiply(rows)
before = resident_bytes(os.getpid())
for rows in range(160, 360):
    multiply(rows)
print(resident_bytes(os.getpid()) - before)
"""


def test_texts_of_many_lengths_leave_no_kernels_behind():
    # Each of 200 new shapes would keep half a megabyte and more where products have kernels.
    done = subprocess.run(
        [sys.executable, "-c", MANY_SHAPES],
        cwd=ROOT, env=worker_environment(1), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 30_000_000
