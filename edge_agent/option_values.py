"""What the words of options mean, in the units that the agent works with."""

import os
import re
import socket
from collections.abc import Collection
from pathlib import Path

from edge_agent.errors import UsageError
from edge_agent.probe.memory import parse_size

_MOST_MOMENTUM = 0.999


def check_floors(given: dict[str, tuple[int, int]]) -> None:
    """Refuse floors above what they are the floor of.

    Args:
        given: floor and value, by the option's name.

    Raises:
        UsageError: one is.
    """
    for name, (least, value) in given.items():
        if least > value:
            raise UsageError(f"--min-{name} is {least}; at most --{name} ({value}) is allowed.")


def check_among(option: str, value: str, known: Collection[str]) -> None:
    """Refuse a word that an option does not know.

    Raises:
        UsageError: it is none of those.
    """
    if value not in known:
        *others, last = known
        raise UsageError(f"{option} is {value!r}; allowed are {', '.join(others)} and {last}.")


def check_optimizer(optimizer: str, momentum: float) -> None:
    """Refuse an optimiser that isn't known, and momentum where it would do nothing.

    Raises:
        UsageError: see above.
    """
    check_among("--optimizer", optimizer, ("adamw", "sgd"))
    if not 0 <= momentum <= _MOST_MOMENTUM:
        raise UsageError(f"--momentum is {momentum}; must be from 0 to {_MOST_MOMENTUM}.")
    if momentum and optimizer != "sgd":
        raise UsageError(f"--momentum is {momentum}; only --optimizer sgd has one.")


def absolute(path: Path | None) -> str | None:
    """Return a file's path, which the agent may read from another folder."""
    return str(path.absolute()) if path is not None else None


def memory_bytes_of(memory: str | None) -> int | None:
    """Return ``--memory`` in bytes.

    Raises:
        UsageError: it is no size.
    """
    try:
        return parse_size(memory) if memory else None
    except ValueError as error:
        raise UsageError(f"--memory: {error}") from error


def rate_of(option: str, text: str | None) -> int | None:
    """Return an option such as ``250kbit`` in bits a second.

    Raises:
        UsageError: it is no rate.
    """
    from wire.pacing import parse_rate

    try:
        return parse_rate(text) if text else None
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def cap_bytes_of(text: str | None) -> int | None:
    """Return ``--data-cap`` in bytes.

    Raises:
        UsageError: it is no size, or too small for the agent to say that it lives.
    """
    from edge_agent.data_cap import LEAST_CAP_BYTES

    try:
        cap_bytes = parse_size(text) if text else None
    except ValueError as error:
        raise UsageError(f"--data-cap: {error}") from error
    if cap_bytes is not None and cap_bytes < LEAST_CAP_BYTES:
        raise UsageError(
            f"--data-cap is {text}; at least {LEAST_CAP_BYTES} bytes are needed: an agent that "
            "only says each minute that it lives takes half of that."
        )
    return cap_bytes


def default_device() -> str:
    """Return the device's id where none is given: the machine's name."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())


def default_state(device: str) -> Path:
    """Return where a device's files are by default: ``LORIKEET_STATE``, or the XDG state folder."""
    if chosen := os.environ.get("LORIKEET_STATE"):
        return Path(chosen)
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "lorikeet" / device
