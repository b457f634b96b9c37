"""Hosts and ports to listen on."""

import ipaddress
from urllib.parse import urlsplit

import msgspec

from hub.errors import ConfigError

_HOST_PORT = "host:port, such as 127.0.0.1:8080"


class Address(msgspec.Struct, frozen=True):
    """A host and a port to listen on; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.host)

    @property
    def wildcard(self) -> bool:
        """Whether it stands for all of the machine's addresses, and so names none of them."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def parse_address(text: str, path: str) -> Address:
    """Return the address that ``host:port`` or ``[ipv6]:port`` means.

    Raises:
        ConfigError: it has no host or no port from 0 to 65535; the error names ``path``.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(path, text, _HOST_PORT) from error
    if not host or port is None or parts.netloc != text or parts.username is not None:
        raise ConfigError(path, text, _HOST_PORT)
    return Address(host, port)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's own loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
