"""HTTP in a thread of the hub's process."""

import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn

from hub.api.patience import ImpatientProtocol
from hub.errors import HubError

_START_S = 15.0
_LAST_REQUESTS_S = 3  # how long requests under way may take once the server is told to stop


class _Server(uvicorn.Server):
    """Says when it takes requests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class HttpServer:
    """Serves an ASGI application from a thread; the process's signals are left alone.

    Args:
        app: the application.
        host: the address to listen on.
        port: the port; 0 lets the system choose, and `port` tells which.
        tls: files (PEM) of a certificate and its key; None: HTTP without TLS.
        most: connections at a time; beyond, the answer is 503. With it, those that ask nothing in
            time are dropped, and each address has a bound of its own.
        key: of the hub's file, which an error names.
    """

    def __init__(
        self,
        app: Any,
        host: str,
        port: int,
        *,
        tls: tuple[Path, Path] | None = None,
        most: int | None = None,
        key: str = "http.listen",
    ) -> None:
        self._key = key
        self._tls = tls
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=_LAST_REQUESTS_S,
            limit_concurrency=most,
            http="auto" if most is None else ImpatientProtocol,
            ssl_certfile=tls[0] if tls else None,
            ssl_keyfile=tls[1] if tls else None,
        )
        self._config = config
        self._server = _Server(config)
        # A daemon: a hub that fails elsewhere must be able to end.
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on, once the server was started."""
        return self._port

    def start(self) -> None:
        """Listen; return once requests are answered.

        Raises:
            HubError: the address is taken or isn't this machine's.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            self._socket = socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            raise HubError(
                f"{self._key} is {self._host}:{self._port}; "
                f"{error.strerror or error}. Choose another address."
            ) from error
        self._port = int(self._socket.getsockname()[1])
        self._thread.start()
        if not self._server.ready.wait(_START_S):
            self.stop()
            raise HubError(f"the HTTP server did not start within {_START_S:.0f} s.")

    def reload_certificate(self) -> None:
        """Show new connections the certificate that the files now hold."""
        if self._tls is not None and self._config.ssl is not None:
            self._config.ssl.load_cert_chain(*self._tls)

    def stop(self) -> None:
        """Finish the requests under way, then close; may be called twice."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_LAST_REQUESTS_S + 2.0)
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket] if self._socket else None)
