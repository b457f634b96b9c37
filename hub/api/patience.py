"""Connections of strangers: dropped if they ask nothing in time, and bounded for each address."""

import asyncio
from collections import Counter

from uvicorn.protocols.http.h11_impl import H11Protocol

#: From the connection to a whole request's head, TLS's handshake left out (asyncio bounds that).
HEAD_S = 15.0
#: Of one address at a time; behind one there may be a clinic's devices that fetch a model.
MOST_EACH = 64

_connected: Counter[str] = Counter()


class ImpatientProtocol(H11Protocol):
    """One connection. Between two requests uvicorn's own keep-alive bounds the wait."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        _connected[self._address] += 1
        if _connected[self._address] > MOST_EACH:
            transport.close()
            return
        self.loop.call_later(HEAD_S, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count one less."""
        _connected[self._address] -= 1
        if _connected[self._address] <= 0:
            del _connected[self._address]
        super().connection_lost(exc)

    def _check(self) -> None:
        asked: object | None = self.cycle
        if asked is None and not self.transport.is_closing():
            self.transport.close()
