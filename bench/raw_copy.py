"""A raw TCP copy: so many bytes one way, one byte back when all are there.

``python -m bench.raw_copy HOST PORT SIZE`` sends, and prints the seconds from the beginning of
the connection to that byte.
"""

import socket
import sys
import threading
import time

_PIECE_BYTES = 64 * 1024
_PATIENCE_S = 600.0


class CopyServer:
    """Takes one copy after the other; a context manager.

    Args:
        host: an address in the calling thread's network namespace.
        size_bytes: of each copy.
    """

    def __init__(self, host: str, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "CopyServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                client.settimeout(_PATIENCE_S)
                left = self._size_bytes
                while left > 0 and (piece := client.recv(_PIECE_BYTES)):
                    left -= len(piece)
                client.sendall(b"!")


def copy(host: str, port: int, size_bytes: int) -> float:
    """Send so many bytes; return the seconds until the other side has them all."""
    data = bytes(size_bytes)
    began = time.perf_counter()
    with socket.create_connection((host, port), _PATIENCE_S) as server:
        server.sendall(data)
        if server.recv(1) != b"!":
            sys.exit("the copy broke off")
    return time.perf_counter() - began


if __name__ == "__main__":
    print(copy(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
