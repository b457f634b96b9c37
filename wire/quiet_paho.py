"""What paho logs as an error: the reason a connection broke, or a mistake in a callback of ours.

paho drops both unless it has a logger. Its debug lines, one for each packet, stay unformatted.
"""

import logging
from collections.abc import Callable

log = logging.getLogger("wire.link")


class _Errors(logging.Handler):
    def __init__(self, on_trouble: Callable[[BaseException], None]) -> None:
        super().__init__()
        self._on_trouble = on_trouble

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("Caught exception"):
            log.error("%s", text)
            return
        for argument in record.args if isinstance(record.args, tuple) else ():
            if isinstance(argument, BaseException):
                self._on_trouble(argument)


def paho_logger(on_trouble: Callable[[BaseException], None]) -> logging.Logger:
    """Return a logger for one client, known to nobody else.

    Args:
        on_trouble: called with the exception for which paho gives a connection up.
    """
    logger = logging.Logger("paho", logging.ERROR)
    logger.addHandler(_Errors(on_trouble))
    return logger
