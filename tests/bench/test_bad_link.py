import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.bad_link import LOSS


@contextmanager
def forwarder() -> Iterator[tuple[socket.socket, socket.socket, "subprocess.Popen[str]"]]:
    """Run a forwarder between datagram sockets, which keep packets apart as TUN devices do."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    ends = [inner for _, inner in pairs]
    for end in ends:
        end.setblocking(False)
    near, far = (outer for outer, _ in pairs)
    command = [sys.executable, "-m", "bench.bad_link", *(str(end.fileno()) for end in ends)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[end.fileno() for end in ends],
    ) as process:
        try:
            for one in (near, far):
                one.settimeout(30.0)
            yield near, far, process
        finally:
            process.kill()
            for one in (near, far, *ends):
                one.close()


def tell(process: "subprocess.Popen[str]", command: str) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(command + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def test_a_good_link_loses_nothing_either_way() -> None:
    with forwarder() as (near, far, _):
        for number in range(50):
            near.send(bytes([number]))
            assert far.recv(10) == bytes([number])
            far.send(bytes([number, 0]))
            assert near.recv(10) == bytes([number, 0])


def test_a_bad_link_loses_what_its_seed_says_and_keeps_the_order() -> None:
    dice = random.Random(3)
    kept = [number for number in range(100) if dice.random() >= LOSS]
    assert 85 < len(kept) < 100

    with forwarder() as (near, far, process):
        tell(process, "bad 3")
        for number in range(100):
            near.send(bytes([number]))
        assert [far.recv(10)[0] for _ in kept] == kept
        tell(process, "good")
        near.send(b"last")
        assert far.recv(10) == b"last"
