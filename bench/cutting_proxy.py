"""A TCP proxy before a broker that cuts the line once, after so many bytes from the device.

What the device had sent by then crossed the link, wherever it got to: the proxy reads it to its
end, counts it, and passes on no more than it was told. Then both connections are reset. It is
slower than loopback, so that a window that was sent is still under way when the line is cut.
"""

import fcntl
import selectors
import socket
import struct
import sys
import termios
import threading
import time
from contextlib import suppress

from bench.report import BenchError
from bench.upload_meter import UploadMeter

_PIECE_BYTES = 16 * 1024
_RATE_BYTES_PER_S = 8e6
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close() sends RST


class CuttingProxy:
    """Passes connections on to a broker; a context manager.

    Args:
        host: of the broker, and where it listens itself.
        port: of the broker.
        meter: sees all that comes from devices.
    """

    def __init__(self, host: str, port: int, meter: UploadMeter) -> None:
        self._broker = (host, port)
        self._meter = meter
        self._cut_after: int | None = None
        self._stopping = threading.Event()
        self._listener = socket.create_server((host, 0))
        self._listener.settimeout(0.2)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.url = f"mqtt://{host}:{self._listener.getsockname()[1]}"
        self.cuts = 0
        self.problem: str | None = None

    def cut_after(self, upload_bytes: int) -> None:
        """Cut once, as soon as the meter has seen so many bytes of uploads."""
        self._cut_after = upload_bytes

    def __enter__(self) -> "CuttingProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._listener.close()

    def check(self, cuts: int) -> None:
        """See that the line was cut as often as was asked for.

        Raises:
            BenchError: it wasn't.
        """
        if self.problem or self.cuts != cuts:
            raise BenchError(f"{self.cuts} of {cuts} cuts were made. {self.problem or ''}")

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                with suppress(TimeoutError):
                    device, _ = self._listener.accept()
                    with device, socket.create_connection(self._broker) as broker:
                        self._serve(device, broker)
        except (OSError, BenchError) as error:
            self.problem = f"{type(error).__name__}: {error}"

    def _serve(self, device: socket.socket, broker: socket.socket) -> None:
        """Pass bytes both ways until somebody ends it, or the line is to be cut."""
        self._meter.begin()
        with selectors.DefaultSelector() as selector:
            selector.register(device, selectors.EVENT_READ, broker)
            selector.register(broker, selectors.EVENT_READ, device)
            while not self._stopping.is_set():
                for key, _ in selector.select(0.2):
                    source, target = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    try:
                        piece = source.recv(_PIECE_BYTES)
                    except ConnectionError:
                        return
                    if not piece:
                        return
                    if source is device:
                        self._meter.feed(piece)
                        if self._cut_after is not None:
                            over = self._meter.blob_bytes - self._cut_after
                            if over >= 0:
                                broker.sendall(piece[: max(0, len(piece) - over)])
                                self._cut(device, broker)
                                return
                        time.sleep(len(piece) / _RATE_BYTES_PER_S)
                    target.sendall(piece)

    def _cut(self, device: socket.socket, broker: socket.socket) -> None:
        self._cut_after = None
        self.cuts += 1
        waiting = int.from_bytes(fcntl.ioctl(device, termios.FIONREAD, bytes(4)), sys.byteorder)
        while waiting > 0 and (piece := device.recv(waiting)):
            self._meter.feed(piece)
            waiting -= len(piece)
        for one in (device, broker):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
