"""Processes' memory, as another library sees it."""

import os
import subprocess
import sys

import psutil

from edge_agent.probe.process import forget_peak, peak_bytes, resident_bytes, with_descendants


def test_resident_memory_is_what_another_library_says() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it waits now, so its memory stands still
        assert resident_bytes(process.pid) == psutil.Process(process.pid).memory_info().rss
        process.communicate(b"\n")
    assert resident_bytes(process.pid) is None
    assert peak_bytes(process.pid) is None


def test_the_peak_remembers_what_was_given_back() -> None:
    before = peak_bytes(os.getpid())
    assert before is not None
    size = before + 16 * 1024 * 1024
    held = bytearray(os.urandom(1024)) * (size // 1024)
    del held
    after = peak_bytes(os.getpid())
    assert after is not None
    assert after >= size


def test_a_peak_that_is_forgotten_begins_anew_at_what_is_held() -> None:
    held = bytearray(os.urandom(1024)) * (64 * 1024)
    high = peak_bytes(os.getpid())
    del held
    assert forget_peak(os.getpid())
    low = peak_bytes(os.getpid())
    now = resident_bytes(os.getpid())
    assert high is not None
    assert low is not None
    assert now is not None
    assert low < high - 32 * 1024 * 1024
    assert abs(low - now) < 16 * 1024 * 1024


def test_a_process_that_is_gone_has_nothing_to_forget() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not forget_peak(process.pid)


def test_descendants_are_what_another_library_says() -> None:
    sleeper = "print(flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeper!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the child is there
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 1
        assert with_descendants(process.pid) == [process.pid, children[0].pid]
        process.communicate(b"\n")
