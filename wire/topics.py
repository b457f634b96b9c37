"""The only place where a topic is spelt.

Watched topics live under ``{root}/v1/{fleet}`` and carry JSON; chunks live under
``{root}-data/v1/{fleet}``, so that ``mosquitto_sub -t 'lorikeet/#'`` stays readable.
No topic has more than seven slashes (AWS IoT Core's limit).
"""

import functools
import re
from typing import Literal

import msgspec

from wire.errors import MalformedError

PROTOCOL = "v1"
DEFAULT_ROOT = "lorikeet"
Party = Literal["hub", "device"]
#: Who publishes on each kind of topic; the other party listens.
SENDERS: dict[str, Party] = {
    "hub_state": "hub",
    "job_round": "hub",
    "job_phase": "hub",
    "device_state": "device",
    "device_info": "device",
    "telemetry": "device",
    "event": "device",
    "request": "device",
    "reply": "hub",
    "command": "hub",
    "slice_chunk": "hub",
    "upload_chunk": "device",
    "repair_chunk": "hub",
}
#: mosquitto's own: its errors, TLS handshakes that failed among them (``log_dest topic``).
BROKER_LOG = "$SYS/broker/log/E"
#: One level of a topic that stands for a name.
NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_NAME = re.compile(NAME_PATTERN + r"\Z")
#: Topics whose route is remembered, and the longest of them: none of ours is longer.
_REMEMBERED = 4096
_REMEMBERED_LENGTH = 256


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it may stand as one level of a topic.

    Raises:
        MalformedError: it is empty, longer than 63 characters or has other characters than
            letters, digits, ``.``, ``_`` and ``-``.
    """
    if not _NAME.match(name):
        raise MalformedError(
            f"{what} is {name!r}; allowed are 1 to 63 letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit."
        )
    return name


class Route(msgspec.Struct, frozen=True):
    """Where a message came from: the topic's variable levels.

    ``kind`` is the template's name in `Topics` (``device_state``, ``request``, ...).
    """

    kind: str
    device: str | None = None
    job: str | None = None
    name: str | None = None  # the event's type, the request's op, the command's type, the slice


class Topics(msgspec.Struct, frozen=True):
    """Spells and parses the topics of one fleet."""

    fleet: str
    root: str = DEFAULT_ROOT

    def __post_init__(self) -> None:
        check_name(self.fleet, "fleet")
        check_name(self.root, "root")

    @property
    def watched(self) -> str:
        """Root of everything a person may watch."""
        return f"{self.root}/{PROTOCOL}/{self.fleet}"

    @property
    def data(self) -> str:
        """Root of the chunks."""
        return f"{self.root}-data/{PROTOCOL}/{self.fleet}"

    def hub_state(self) -> str:
        return f"{self.watched}/hub/state"

    def job_round(self, job: str = "+") -> str:
        return f"{self.watched}/job/{job}/round"

    def job_phase(self, job: str = "+") -> str:
        return f"{self.watched}/job/{job}/phase"

    def device_state(self, device: str = "+") -> str:
        return f"{self.watched}/d/{device}/state"

    def device_info(self, device: str = "+") -> str:
        return f"{self.watched}/d/{device}/info"

    def telemetry(self, device: str = "+") -> str:
        return f"{self.watched}/d/{device}/up/telemetry"

    def event(self, device: str = "+", name: str = "+") -> str:
        return f"{self.watched}/d/{device}/up/event/{name}"

    def request(self, device: str = "+", name: str = "+") -> str:
        return f"{self.watched}/d/{device}/up/req/{name}"

    def reply(self, device: str = "+") -> str:
        return f"{self.watched}/d/{device}/down/res"

    def command(self, device: str = "+", name: str = "+") -> str:
        return f"{self.watched}/d/{device}/down/cmd/{name}"

    def slice_chunk(self, job: str = "+", name: str = "+") -> str:
        return f"{self.data}/job/{job}/slice/{name}"

    def upload_chunk(self, device: str = "+") -> str:
        return f"{self.data}/d/{device}/up"

    def repair_chunk(self, device: str = "+") -> str:
        return f"{self.data}/d/{device}/down"

    def parse(self, topic: str) -> Route | None:
        """Return where a message came from, or None if the topic isn't one of this fleet's.

        Brokers have delivered topics that were never subscribed to (amqtt does on resumed
        sessions), so an unknown topic is an ordinary outcome.
        """
        known = _route if len(topic) <= _REMEMBERED_LENGTH else _route.__wrapped__
        return known(self.root, self.fleet, topic)


def template(kind: str, name: str | None = None) -> str:
    """Return a kind of topic with its variable levels in braces, as documents write it.

    Args:
        kind: a key of `SENDERS`.
        name: stands in place of the last variable level, such as a request's op.
    """
    last = name or "{" + _LAST_LEVEL.get(kind, "name") + "}"
    levels = _WATCHED.get(kind) or _DATA[kind]
    root = DEFAULT_ROOT if kind in _WATCHED else f"{DEFAULT_ROOT}-data"
    spelt = [last if level == "{name}" else level for level in levels]
    return "/".join([root, PROTOCOL, "{fleet}", *spelt])


def watch_filters(
    fleet: str = "+", device: str | None = None, *, chunks: bool = False
) -> list[str]:
    """Return the filters that match what a person may watch.

    Args:
        fleet: its name; ``+`` is all.
        device: only this device's topics.
        chunks: the binary ones, too: every blob travels once more, to who watches.
    """
    roots = [DEFAULT_ROOT, f"{DEFAULT_ROOT}-data"] if chunks else [DEFAULT_ROOT]
    rest = "#" if device is None else f"d/{device}/#"
    return [f"{root}/{PROTOCOL}/{fleet}/{rest}" for root in roots]


def fleet_of(topic: str) -> str | None:
    """Return whose topic it is, or None if it is none of ours."""
    levels = topic.split("/", 3)
    ours = len(levels) > 3 and levels[0] in (DEFAULT_ROOT, f"{DEFAULT_ROOT}-data")
    if not ours or levels[1] != PROTOCOL or not _NAME.match(levels[2]):
        return None
    return levels[2]


_WATCHED = {
    "hub_state": ("hub", "state"),
    "job_round": ("job", "{job}", "round"),
    "job_phase": ("job", "{job}", "phase"),
    "device_state": ("d", "{device}", "state"),
    "device_info": ("d", "{device}", "info"),
    "telemetry": ("d", "{device}", "up", "telemetry"),
    "event": ("d", "{device}", "up", "event", "{name}"),
    "request": ("d", "{device}", "up", "req", "{name}"),
    "reply": ("d", "{device}", "down", "res"),
    "command": ("d", "{device}", "down", "cmd", "{name}"),
}
_DATA = {
    "slice_chunk": ("job", "{job}", "slice", "{name}"),
    "upload_chunk": ("d", "{device}", "up"),
    "repair_chunk": ("d", "{device}", "down"),
}

#: What the last variable level is called, by kind.
_LAST_LEVEL = {"event": "type", "request": "op", "command": "type", "slice_chunk": "slice"}


@functools.lru_cache(_REMEMBERED)
def _route(root: str, fleet: str, topic: str) -> Route | None:
    rest = f"/{PROTOCOL}/{fleet}/"
    for begin, routes in ((root + rest, _WATCHED), (f"{root}-data{rest}", _DATA)):
        if topic.startswith(begin):
            return _match(topic[len(begin) :].split("/"), routes)
    return None


def _match(levels: list[str], routes: dict[str, tuple[str, ...]]) -> Route | None:
    for kind, pattern in routes.items():
        if len(pattern) != len(levels):
            continue
        found = {}
        for want, have in zip(pattern, levels, strict=True):
            if want.startswith("{"):
                if not _NAME.match(have):
                    break
                found[want[1:-1]] = have
            elif want != have:
                break
        else:
            return Route(kind, **found)
    return None
