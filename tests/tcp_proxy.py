"""A TCP proxy in front of a broker: counts every byte, and cuts connections where it is told."""

import contextlib
import select
import socket
import threading


class TcpProxy:
    """Forwards each connection to a port on loopback.

    Args:
        port: of the broker.

    Attributes:
        up: bytes that clients sent.
        down: bytes that clients received.
        cut_at: once ``up`` reaches it, the connection is cut in the middle of whatever travels.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._listener.getsockname()[1]}"
        self.up = self.down = 0
        self.cut_at: int | None = None
        self._closing = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._closing = True
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        self._listener.settimeout(0.05)
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                broker = socket.create_connection(("127.0.0.1", self._target))
                thread = threading.Thread(target=self._forward, args=(client, broker), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _forward(self, client: socket.socket, broker: socket.socket) -> None:
        with client, broker, contextlib.suppress(OSError):
            while not self._closing:
                ready, _, _ = select.select([client, broker], [], [], 0.05)
                for side in ready:
                    data = side.recv(65536)
                    if not data:
                        return
                    if side is client:
                        left = None if self.cut_at is None else self.cut_at - self.up
                        if left is not None and left < len(data):
                            broker.sendall(data[:left])
                            self.up += left
                            self.cut_at = None
                            return
                        broker.sendall(data)
                        self.up += len(data)
                    else:
                        client.sendall(data)
                        self.down += len(data)
