"""The endpoint: OpenAI's interface over HTTP, one thread for each connection, few of them.

The standard library's server: it weighs nothing beside a model, and a local endpoint has a handful
of clients. It reads bounded bodies, answers none but local callers unless there is a token, and
writes no log of what is asked.
"""

import contextlib
import hmac
import logging
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import msgspec

from edge_agent.serving import openai_answers
from edge_agent.serving.answering import answer
from edge_agent.serving.service import Service
from edge_agent.worker import describe
from wire.version import LORIKEET_VERSION

log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 4 * 1024 * 1024
_MOST_CONNECTIONS = 64
#: Of a client that sends nothing, or takes nothing.
_TIMEOUT_S = 60.0
_LOCAL = ("localhost", "127.0.0.1", "::1")
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class Server(ThreadingHTTPServer):
    """Listens, and hands requests to a service.

    Args:
        service: that answers.
        host: to listen on.
        port: 0 for any that is free.
        token: that every request must bear; None: local callers need none.

    Raises:
        OSError: the address can't be listened on.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, service: Service, host: str, port: int, token: str | None) -> None:
        self.service = service
        self.token = token
        self.created = int(time.time())
        self._room = threading.Semaphore(_MOST_CONNECTIONS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def server_bind(self) -> None:
        # The library's own would look the host's name up, which takes seconds without a network.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.sendall(_BUSY)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        # The library would print a traceback, whose error could quote a request.
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            log.error("a request failed: %s", describe(error))


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = f"lorikeet/{LORIKEET_VERSION}"
    sys_version = ""
    timeout = _TIMEOUT_S
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = self._path()
        if path == "/health":
            self.send_document(HTTPStatus.OK, self._health())
        elif path == "/v1/models" and self._allowed():
            service = self.server.service
            self.send_document(
                HTTPStatus.OK, openai_answers.models(service.name, self.server.created)
            )
        elif path == f"/v1/models/{self.server.service.name}" and self._allowed():
            found = openai_answers.models(self.server.service.name, self.server.created)
            self.send_document(HTTPStatus.OK, found["data"][0])
        elif path not in ("/v1/models",) and not path.startswith("/v1/models/"):
            self._no_such_path(path)
        elif self._allowed():
            self.send_failure(
                HTTPStatus.NOT_FOUND, "there is no such model.", code="model_not_found"
            )

    def do_POST(self) -> None:
        path = self._path()
        if path not in ("/v1/chat/completions", "/v1/completions"):
            self.close_connection = True  # its body was not read
            self._no_such_path(path)
            return
        if not self._allowed():
            self.close_connection = True
            return
        body = self._body()
        if body is not None:
            answer(self, self.server.service, body, chat=path.startswith("/v1/chat"))

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: who asks when is the user's business."""

    def send_document(
        self, status: HTTPStatus, document: Any, headers: dict[str, str] | None = None
    ) -> None:
        """Answer with one JSON document."""
        data = msgspec.json.encode(document)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def send_failure(
        self,
        status: HTTPStatus,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Answer with an error in the interface's form."""
        kind = "invalid_request_error"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            kind = "rate_limit_error"
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            kind = "server_error"
        self.send_document(status, openai_answers.failure(message, kind, param, code), headers)

    def begin_stream(self) -> None:
        """Answer with events; the connection's end is theirs."""
        self.close_connection = True
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Connection", "close")
        self.end_headers()

    def send_event(self, document: Any) -> None:
        """Send one event of a stream."""
        data = document if isinstance(document, bytes) else msgspec.json.encode(document)
        self.wfile.write(b"data: " + data + b"\n\n")
        self.wfile.flush()

    def gone(self) -> bool:
        """Return whether the client has closed the connection."""
        try:
            self.connection.setblocking(False)
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            with contextlib.suppress(OSError):
                self.connection.settimeout(self.timeout)

    def _path(self) -> str:
        return urlsplit(self.path).path.rstrip("/")

    def _health(self) -> dict[str, Any]:
        service = self.server.service
        return {
            "status": "ok",
            "model": service.name,
            "engine": service.engine.name,
            "adapter": service.scheduler.adapter,
            "slots": service.scheduler.slots,
            "busy": service.scheduler.busy,
            "context": service.context,
            "swaps": service.swaps,
        }

    def _no_such_path(self, path: str) -> None:
        self.send_failure(HTTPStatus.NOT_FOUND, f"there is no {path[:100]!r} here.")

    def _allowed(self) -> bool:
        """Return whether the caller may ask; else it was told why not."""
        token = self.server.token
        if token is None:
            # A web page must not reach a local model through its reader's browser: neither by a
            # name of its own that leads here, nor from another origin.
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
            origin = self.headers.get("Origin")
            local = origin is None or urlsplit(origin).hostname in _LOCAL
            if host in _LOCAL and local:
                return True
            self.send_failure(
                HTTPStatus.FORBIDDEN,
                "only local programs may ask without a token. Start the server with --token-file.",
            )
            return False
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), token.encode()
        ):
            return True
        self.send_failure(
            HTTPStatus.UNAUTHORIZED,
            "the token is missing or wrong. Give it as the API key.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
        return False

    def _body(self) -> bytes | None:
        """Return the request's body; None: it can't be read, and the client was told."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            self.send_failure(HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length.")
            return None
        if int(length) > _MAX_BODY_BYTES:
            self.close_connection = True
            self.send_failure(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body has {length} bytes; at most {_MAX_BODY_BYTES} are read.",
            )
            return None
        return self.rfile.read(int(length))
