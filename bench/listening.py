"""Listens to cables (packet(7)): every frame that passes is taken apart at once."""

import selectors
import socket
import threading
import time

from bench.network import Port
from bench.overheard import Overheard

_ALL_PROTOCOLS = 3  # ETH_P_ALL, in the network's byte order below
_FRAME_BYTES = 65536
_BUFFER_BYTES = 16 * 1024**2


class Listener:
    """What passes on some cables while the context is open.

    Args:
        ports: their hosts; whoever makes this must be in their exchange.
    """

    def __init__(self, ports: list[Port]) -> None:
        self.overheard = [Overheard(port.mac) for port in ports]
        self._selector = selectors.DefaultSelector()
        for port, one in zip(ports, self.overheard, strict=True):
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            ear.bind((port.cable, _ALL_PROTOCOLS))
            ear.setblocking(False)
            self._selector.register(ear, selectors.EVENT_READ, one)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _listen(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(0.1):
                if isinstance(key.fileobj, socket.socket):
                    self._drain(key.fileobj, key.data)

    def _drain(self, ear: socket.socket, one: Overheard) -> None:
        while True:
            try:
                frame = ear.recv(_FRAME_BYTES)
            except BlockingIOError:
                return
            one.frame(frame, time.time())
