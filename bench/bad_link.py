"""A bad link between two network namespaces, in user space: rate, delay and loss.

``python -m bench.bad_link FD FD`` joins two TUN devices (IP packets, one a read and a write) and
takes commands on standard input: ``bad SEED`` makes the link bad from now on, ``good`` makes it
perfect again. Each direction has its own queue of half a second, at whose end packets are
dropped. It stands in for netem, which not every kernel has.
"""

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType

from bench.network import Namespace
from bench.report import BenchError

RATE_BITS_PER_S = 1e6
DELAY_S = 0.1  # each way: 200 ms there and back
LOSS = 0.05
_QUEUE_S = 0.5
_MTU = 1400
_READ_BYTES = 2048
#: linux/if_tun.h
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class Forwarder:
    """Moves packets between two TUN devices.

    Args:
        ends: the open devices.
    """

    def __init__(self, ends: tuple[int, int]) -> None:
        self._other = {ends[0]: ends[1], ends[1]: ends[0]}
        self._free_at = dict.fromkeys(ends, 0.0)
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._bad = False
        self._random = random.Random(0)

    def run(self) -> None:
        """Forward until standard input ends."""
        commands = sys.stdin.fileno()
        while True:
            wait_s = max(0.0, self._under_way[0][0] - time.monotonic()) if self._under_way else 1.0
            for fd in select.select([*self._other, commands], [], [], wait_s)[0]:
                if fd != commands:
                    self._take(fd)
                elif not self._command(os.read(commands, 100).decode()):
                    return
            self._give(time.monotonic())

    def _command(self, text: str) -> bool:
        words = text.split()
        if not words:
            return False
        self._bad = words[0] == "bad"
        if self._bad:
            self._random = random.Random(int(words[1]))
        print("done", flush=True)
        return True

    def _take(self, end: int) -> None:
        with suppress(BlockingIOError):
            while True:
                packet = os.read(end, _READ_BYTES)
                self._send(end, packet, time.monotonic())

    def _send(self, end: int, packet: bytes, now: float) -> None:
        at = now
        if self._bad:
            start = max(now, self._free_at[end])
            if self._random.random() < LOSS or start - now > _QUEUE_S:
                return
            self._free_at[end] = start + len(packet) * 8 / RATE_BITS_PER_S
            at = self._free_at[end] + DELAY_S
        self._count += 1
        heapq.heappush(self._under_way, (at, self._count, self._other[end], packet))

    def _give(self, now: float) -> None:
        while self._under_way and self._under_way[0][0] <= now:
            _, _, end, packet = heapq.heappop(self._under_way)
            with suppress(OSError):  # an interface that was just taken down
                os.write(end, packet)


class BadLink:
    """A link that can be made bad; a context manager. The forwarder is a process of its own.

    Args:
        near: one end's namespace and address.
        far: the other end's.
    """

    def __init__(self, near: tuple[Namespace, str], far: tuple[Namespace, str]) -> None:
        self._ends = [_tun(near, far[1]), _tun(far, near[1])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.bad_link", *map(str, self._ends)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=self._ends,
            start_new_session=True,
        )

    def __enter__(self) -> "BadLink":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        for end in self._ends:
            os.close(end)

    def bad(self, seed: int) -> None:
        """Make it bad; the seed decides which packets are lost."""
        self._tell(f"bad {seed}")

    def good(self) -> None:
        """Make it perfect."""
        self._tell("good")

    def _tell(self, command: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            raise BenchError("the bad link's process has ended.")


def _tun(place: tuple[Namespace, str], peer: str) -> int:
    """Make a TUN device in a namespace; return it open."""
    namespace, address = place
    made: list[int] = []

    def make() -> None:
        namespace.enter()  # this thread only, which ends here
        end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        request = struct.pack("16sH22x", b"bad0", _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(end, _TUNSETIFF, request)
        made.append(end)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not made:
        raise BenchError("no TUN device can be made; is there /dev/net/tun?")
    namespace.ip(f"addr add {address} peer {peer} dev bad0", f"link set bad0 mtu {_MTU} up")
    return made[0]


if __name__ == "__main__":
    Forwarder((int(sys.argv[1]), int(sys.argv[2]))).run()
