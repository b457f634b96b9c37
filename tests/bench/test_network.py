import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.network import EXCHANGE, Network
from bench.raw_copy import CopyServer

pytestmark = pytest.mark.root

HEADERS = 14 + 20 + 20  # of Ethernet, IP (RFC 791) and TCP (RFC 9293), without TCP's options
OPTIONS = 12  # TCP's timestamps (RFC 7323), padded
MSS = 1500 - 40 - OPTIONS
SIZE = 1_000_000


@pytest.fixture(autouse=True)
def _root_only() -> None:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("needs root on Linux")


def interfaces() -> set[str]:
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    return {line.partition(":")[0].strip() for line in lines}


def test_a_cable_counts_every_header_and_nothing_but_tcp() -> None:
    with Network() as network:
        port = network.plug()
        with CopyServer(EXCHANGE, SIZE) as server:
            before = port.traffic()
            words = [sys.executable, "-m", "bench.raw_copy", EXCHANGE, str(server.port), str(SIZE)]
            command = [str(word) for word in port.namespace.command(words)]
            subprocess.run(command, check=True, capture_output=True)
            passed = port.traffic().since(before)

    full = -(-SIZE // MSS)
    # Every full segment is a frame of its own; SYN, acknowledgements, FIN and some that TCP cuts
    # short or sends again are the rest.
    assert full <= passed.up_frames < full * 1.2
    least = SIZE + full * (HEADERS + OPTIONS)
    assert least <= passed.up_bytes < least * 1.02
    assert passed.down_bytes < passed.down_frames * (HEADERS + OPTIONS + 40)


def test_nothing_is_left_in_the_machines_own_namespace() -> None:
    before = interfaces()
    with Network() as network:
        network.plug()
        assert interfaces() != before
    assert interfaces() == before


def test_nothing_passes_an_unplugged_cable() -> None:
    with Network() as network:
        port = network.plug()
        with CopyServer(EXCHANGE, 1) as server:
            script = f"import socket; socket.create_connection(('{EXCHANGE}', {server.port}), 0.5)"
            command = [str(w) for w in port.namespace.command([sys.executable, "-c", script])]
            assert subprocess.run(command, check=False).returncode == 0
            port.unplug()
            refused = subprocess.run(command, check=False, capture_output=True)
    assert refused.returncode != 0
