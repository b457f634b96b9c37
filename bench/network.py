"""A network of its own for broker, hub and devices: each device behind a cable that counts.

Every device gets a network namespace (network_namespaces(7)) and a veth(4) pair into a bridge.
The bridge, the broker and this bench are in one more, the *exchange*. Namespaces have no names
here: they end with the processes and files that hold them, so nothing is left behind, whatever
happens. Linux and root only.

What a cable counts are whole Ethernet frames: TCP's payload, its headers, acknowledgements and
repetitions, 14 bytes of Ethernet each. Nothing else runs on it: there is no IPv6, neighbours
are known beforehand (no ARP), and segments are cut to 1,500 bytes before the cable, not after
it, so that every header is counted.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec

from bench.open_broker import OpenBroker
from bench.report import BenchError
from bench.stand import Place

_CLONE_NEWNET = 0x40000000
_BRIDGE = "lorikeet0"
_SUBNET = "10.77.0"
_MAX_HOSTS = 64
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
#: Address of broker and bench in every network.
EXCHANGE = f"{_SUBNET}.1"

_libc = ctypes.CDLL(None, use_errno=True)


class NotHereError(BenchError):
    """This machine can't measure it: it needs root on Linux, with ``ip`` and ``nsenter``."""


class Traffic(msgspec.Struct, frozen=True):
    """Bytes and frames over a cable since it was plugged in, as the device sees them."""

    up_bytes: int
    down_bytes: int
    up_frames: int
    down_frames: int

    def since(self, earlier: "Traffic") -> "Traffic":
        """Return what was added."""
        pairs = zip(msgspec.structs.astuple(self), msgspec.structs.astuple(earlier), strict=True)
        return Traffic(*(now - then for now, then in pairs))


class Namespace:
    """A network namespace without a name; `close` lets go of it."""

    def __init__(self) -> None:
        made: list[int] = []
        problems: list[OSError] = []

        def make() -> None:
            # A namespace is of a thread; this one ends at once, the open file keeps it.
            try:
                if _libc.unshare(_CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "unshare")
                made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
                with suppress(FileNotFoundError):  # a kernel without IPv6
                    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            except OSError as error:
                problems.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if problems:
            raise NotHereError(f"no network namespace can be made ({problems[0]}); run as root.")
        self._fd = made[0]
        self.path = f"/proc/{os.getpid()}/fd/{self._fd}"
        self.ip("link set lo up")

    def command(self, words: Sequence[str | Path]) -> list[str | Path]:
        """Return a command that runs in here; its process id is that of the command itself."""
        return ["nsenter", f"--net={self.path}", "--", *words]

    def ip(self, *lines: str) -> None:
        """Run commands of ip(8) in here.

        Raises:
            BenchError: one failed.
        """
        done = subprocess.run(
            [str(word) for word in self.command(["ip", "-batch", "-"])],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise BenchError(f"ip refused {lines}: {done.stderr.strip()}")

    def set(self, key: str, value: str) -> None:
        """Set one of the kernel's parameters below ``/proc/sys/net`` for this namespace.

        Raises:
            BenchError: the kernel refuses.
        """
        script = ["sh", "-c", 'echo "$1" > "/proc/sys/net/$0"', key, value]
        command = [str(word) for word in self.command(script)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{key} can't be {value} in a namespace: {done.stderr.strip()}")

    def enter(self) -> None:
        """Take the calling thread in here, and with it the threads and processes it starts."""
        _set_namespace(self._fd)

    def close(self) -> None:
        """Let go; it ends when its last process does."""
        os.close(self._fd)


class Port:
    """A host on the network: its namespace, its address, and the cable that counts.

    Args:
        number: of the host; decides names and addresses.
        exchange: where the other end of the cable is.

    Attributes:
        address: of the host.
        cable: the name of the exchange's end.
        mac: six bytes, of the host's end.
    """

    def __init__(self, number: int, exchange: Namespace) -> None:
        self._exchange = exchange
        self.cable = f"cable{number}"
        self.mac = bytes.fromhex(_mac(number).replace(":", ""))
        self.address = f"{_SUBNET}.{number}"
        self.namespace = Namespace()
        exchange.ip(
            f"link add name {self.cable} type veth "
            f"peer name eth0 address {_mac(number)} netns {self.namespace.path}",
            f"link set {self.cable} master {_BRIDGE} gso_max_segs 1 up",
        )
        self.namespace.ip(
            f"addr add {self.address}/24 dev eth0",
            "link set eth0 gso_max_segs 1 up",
            *_neighbours("eth0", but=number),
        )

    def traffic(self) -> Traffic:
        """Return what passed so far; the calling thread must be in the exchange."""
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            name, _, numbers = line.partition(":")
            if name.strip() == self.cable:
                fields = [int(number) for number in numbers.split()]
                # What the exchange's end receives, the device sent.
                return Traffic(fields[0], fields[8], fields[1], fields[9])
        raise BenchError(f"there is no {self.cable} in this namespace.")

    def unplug(self) -> None:
        """Pull the cable: nothing passes any more, and nobody is told."""
        self._exchange.ip(f"link set {self.cable} down")


class Network:
    """A bridge with ports; while the context is open, the calling thread is at the bridge.

    Raises:
        NotHereError: not Linux, not root, or a tool is missing.
    """

    def __init__(self) -> None:
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            raise NotHereError("it needs root on Linux, for network namespaces.")
        missing = [tool for tool in ("ip", "nsenter") if shutil.which(tool) is None]
        if missing:
            raise NotHereError(f"{' and '.join(missing)} is missing; install iproute2, util-linux.")
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._ports: list[Port] = []
        self._proxies: dict[str, str] = {}
        self.exchange = Namespace()

    def __enter__(self) -> "Network":
        self.exchange.ip(
            f"link add name {_BRIDGE} address {_mac(1)} type bridge mcast_snooping 0",
            f"addr add {EXCHANGE}/24 dev {_BRIDGE}",
            f"link set {_BRIDGE} gso_max_segs 1 up",
            *_neighbours(_BRIDGE, but=1),
        )
        # No proxy can be reached from in here, nor is one needed.
        self._proxies = {name: os.environ.pop(name) for name in _PROXIES if name in os.environ}
        self.exchange.enter()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        _set_namespace(self._home)
        os.environ.update(self._proxies)
        for port in self._ports:
            port.namespace.close()
        self.exchange.close()
        os.close(self._home)

    def place(self, hub: Port) -> Place:
        """Return where a stand runs: the broker at the bridge, the hub behind a cable."""
        return Place(
            start_broker=lambda folder: OpenBroker(folder, EXCHANGE),
            hub_host=hub.address,
            hub_command=hub.namespace.command,
        )

    def plug(self) -> Port:
        """Add a host."""
        number = len(self._ports) + 2
        if number > _MAX_HOSTS:
            raise BenchError(f"at most {_MAX_HOSTS - 1} hosts fit on the bench's network.")
        port = Port(number, self.exchange)
        self._ports.append(port)
        return port


def _set_namespace(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _mac(number: int) -> str:
    """Return a host's address on the cable: a locally administered one."""
    return f"02:00:00:00:4c:{number:02x}"


def _neighbours(device: str, *, but: int) -> list[str]:
    return [
        f"neigh replace {_SUBNET}.{number} lladdr {_mac(number)} dev {device} nud permanent"
        for number in range(1, _MAX_HOSTS + 1)
        if number != but
    ]
