"""Whole frames over WebSocket, which paho 2.2 loses when a socket takes only a part of one.

Its wrapper then returns 0 and keeps the rest, its caller has already dropped the packet, and the
next packet's bytes are counted as those of the rest: on a slow uplink chunks are lost and the
stream is cut in the wrong place.
"""

import select
import ssl
from collections.abc import Callable
from typing import Any


def send_whole(client_socket: Any, timeout_s: float) -> Callable[[bytes], int]:
    """Return a ``send`` for paho's WebSocket that returns when all of a packet has left.

    Meanwhile nothing is read: a packet is a chunk at most.

    Args:
        client_socket: what ``Client.socket()`` returns; not blocking.
        timeout_s: how long it may take nothing at all.

    Raises (when called):
        TimeoutError: it took nothing for so long; the connection is then given up.
    """
    send_some = client_socket.send

    def send(data: bytes) -> int:
        while True:
            try:
                sent: int = send_some(data)
            except (BlockingIOError, ssl.SSLWantWriteError):
                sent = 0
            if sent or not data:
                return sent
            _, writable, _ = select.select([], [client_socket], [], timeout_s)
            if not writable:
                raise TimeoutError(f"the WebSocket took nothing for {timeout_s:.0f} s")

    return send
