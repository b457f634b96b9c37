"""Text, numbers and times of strangers, made fit for one line of a terminal."""

import time

from hub.cli.output import loss, printable, size

#: Of one text inside a line; the rest is cut.
MAX_TEXT = 200
_MAX_BYTES = 10**18
_MAX_LOSS = 10**6
_MAX_TS = 2**33  # the year 2242


def one_line(text: str, limit: int = MAX_TEXT) -> str:
    """Return text without control characters, line ends included, cut to a readable length."""
    cut = text if len(text) <= limit else text[: limit - 3] + "..."
    return printable(cut).replace("\n", "\N{REPLACEMENT CHARACTER}")


def bytes_word(value: int) -> str:
    """Return a number of bytes in the unit that suits it, whatever a device claims."""
    return str(size(value)) if 0 <= value < _MAX_BYTES else "an impossible number of bytes"


def exact_bytes(value: int) -> str:
    """Return a number of bytes, digit for digit."""
    return "1 byte" if value == 1 else f"{value:,} bytes"


def loss_word(value: float) -> str:
    """Return a loss with four digits after the point, whatever a device claims."""
    return str(loss(value)) if abs(value) < _MAX_LOSS else f"{value:.3g}"


def clock_word(ts: float) -> str:
    """Return the local time of a Unix time."""
    return time.strftime("%H:%M:%S", time.localtime(ts)) if 0 < ts < _MAX_TS else "no known time"


def blob_word(sha256: str) -> str:
    """Return how a line names a blob: by the beginning of its digest."""
    return f"blob {one_line(sha256[:8])}"
