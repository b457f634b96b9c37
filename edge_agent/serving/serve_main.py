"""``lorikeet-agent serve``: the process that holds engine and endpoint."""

import logging
import os
import signal
import sys
import threading

import msgspec

from edge_agent.endings import exit_codes
from edge_agent.errors import AgentError, StoppedError
from edge_agent.probe.process import peak_bytes
from edge_agent.run_command import log_to_stderr
from edge_agent.serve_command import ServeSettings
from edge_agent.serving.http_server import Server
from edge_agent.serving.start import Served
from edge_agent.serving.token import read_token
from edge_agent.worker import describe

log = logging.getLogger(__name__)


def serve(settings: ServeSettings, stop: threading.Event) -> dict[str, object]:
    """Serve until told to stop; return what came of it.

    Raises:
        AgentError: there is nothing to serve, or the address can't be listened on.
    """
    token = read_token(settings.token_file)
    try:
        served = Served(settings, stop)
    except StoppedError as stopped:
        log.info("%s", stopped)
        return _document(None, 0)
    try:
        try:
            server = Server(served.service, settings.host, settings.port, token)
        except OSError as error:
            raise AgentError(
                f"{settings.host}:{settings.port} can't be listened on: {error.strerror}. Is "
                "another server there? Choose another port: --listen."
            ) from error
        thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
        thread.start()
        log.info(
            "%s answers at %s/v1 (%s, %d slots of %d tokens)",
            served.service.name,
            server.url,
            served.service.engine.name,
            settings.slots,
            served.service.context,
        )
        stop.wait()
        server.shutdown()
        server.server_close()
        return _document(served.service.name, served.service.swaps)
    finally:
        served.close()


def _document(model: str | None, swaps: int) -> dict[str, object]:
    return {"model": model, "swaps": swaps, "peak_bytes": peak_bytes(os.getpid())}


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """Log where a thread failed; Python would print the error, which could quote a text."""
    if ended.exc_value is not None:
        name = ended.thread.name if ended.thread is not None else "?"
        log.error("the thread %s ended: %s", name, describe(ended.exc_value))


def main() -> None:
    """Run the server that the first argument describes."""
    log_to_stderr()
    threading.excepthook = _thread_ended
    settings = msgspec.json.decode(sys.argv[1], type=ServeSettings)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with exit_codes():
        found = serve(settings, stop)
    if settings.as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


if __name__ == "__main__":
    main()
