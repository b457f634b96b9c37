"""A broker's URL: ``mqtt://host:port``, ``mqtts://`` with TLS, ``ws://`` or ``wss://`` and a path.

Ports default to what IANA registered (1883, 8883) and to those of HTTP for WebSocket; a
WebSocket's path defaults to ``/mqtt``, as mosquitto, HiveMQ, EMQX and AWS IoT Core have it.
"""

import re
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from wire.errors import BrokerSettingsError

_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_WS_PATH = "/mqtt"
ALLOWED = "mqtt://host:port, mqtts://host:port, ws:// or wss://host:port/path"
_CREDENTIALS = re.compile(r"^((?:[^/@]*//)?).*@", re.DOTALL)


class BrokerUrl(msgspec.Struct, frozen=True):
    """``scheme://[user[:password]@]host[:port][/path]``, taken apart."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    scheme: str = "mqtt"
    path: str = ""  # of a WebSocket

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("mqtts", "wss")

    @property
    def websocket(self) -> bool:
        return self.scheme in ("ws", "wss")

    @property
    def shown(self) -> str:
        """The URL without credentials: what may be logged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @classmethod
    def parse(cls, text: str) -> "BrokerUrl":
        """Read a broker's URL; without a scheme it is ``mqtt://``.

        Raises:
            BrokerSettingsError: it has another scheme, no host, an impossible port, a path
                where there is none, or a password without a user.
        """
        try:
            parts = urlsplit(text if "://" in text else f"mqtt://{text}")
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            # Its message may quote a part of the URL, so it isn't repeated.
            raise _refused(text, "has an impossible host or port") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise _refused(text)
        if parts.query or parts.fragment:
            raise _refused(text, "has a query or a fragment")
        if parts.password and not parts.username:
            raise _refused(text, "has a password without a user")
        return cls(
            host=parts.hostname,
            port=port,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            scheme=parts.scheme,
            path=_path(parts, text),
        )


def without_credentials(text: str) -> str:
    """Return what may be logged of a URL that may be malformed: nothing before the last ``@``."""
    return _CREDENTIALS.sub(r"\1", text)


def _path(parts: SplitResult, text: str) -> str:
    if parts.scheme in ("ws", "wss"):
        return parts.path if parts.path not in ("", "/") else _WS_PATH
    if parts.path not in ("", "/"):
        raise _refused(text, "has a path, which only ws:// and wss:// have")
    return ""


def _refused(text: str, why: str = "") -> BrokerSettingsError:
    reason = f", which {why}" if why else ""
    shown = without_credentials(text)
    return BrokerSettingsError("url", f"broker is {shown!r}{reason}; allowed is {ALLOWED}.")
