"""Giving back the code of libraries: what is chosen, and that the process goes on."""

import sys
from pathlib import Path

import pytest

from edge_agent.training.code_pages import give_back_code

# Three mappings in the form of man 5 proc, smaps: clean code; relocated constants; data.
SMAPS = """\
7f0000000000-7f0000001000 r-xp 00000000 08:01 11 /lib/libclean.so
Size:                  4 kB
Rss:                   4 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00002000 08:01 11 /lib/librelocated.so
Rss:                   4 kB
Private_Dirty:         4 kB
Anonymous:             4 kB
7f0000004000-7f0000005000 rw-p 00004000 08:01 11 /lib/libdata.so
Rss:                   4 kB
Anonymous:             0 kB
7f0000006000-7f0000007000 r-xp 00000000 00:00 0 [vdso]
Rss:                   4 kB
Anonymous:             0 kB
"""


@pytest.mark.skipif(sys.platform != "linux", reason="madvise and /proc are Linux's")
def test_only_pages_that_are_their_files_own_are_given_back(tmp_path, monkeypatch):
    advised = []

    class Library:
        class madvise:
            argtypes = None

            def __new__(cls, start, size, advice):
                advised.append((start, size))
                return 0

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Library)
    smaps = tmp_path / "smaps"
    smaps.write_text(SMAPS)
    assert give_back_code(smaps) == 4096
    assert advised == [(0x7F0000000000, 4096)]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs /proc/self/smaps")
def test_the_process_goes_on_after_its_own_code_was_given_back():
    import torch

    before = torch.linspace(0, 1, 100).square().sum()
    assert give_back_code() > 1_000_000
    assert torch.equal(torch.linspace(0, 1, 100).square().sum(), before)


def test_nothing_happens_where_nothing_can_be_read(tmp_path):
    assert give_back_code(tmp_path / "missing") == 0
