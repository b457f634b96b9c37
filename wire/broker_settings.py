"""How to reach a broker, and with which credentials: what hub and agent hand to the link."""

from pathlib import Path
from typing import Literal

import msgspec

from wire.broker_profile import PROFILES, Profile, ProfileName, Version
from wire.broker_url import BrokerUrl
from wire.errors import BrokerSettingsError

#: Not bare numbers: YAML would read 5 as one, and 3.1.1 as text.
Protocol = Literal["auto", "mqtt-5", "mqtt-3.1.1"]
_VERSIONS: dict[str, Version] = {"mqtt-5": "5", "mqtt-3.1.1": "3.1.1"}
_MAX_PASSWORD_BYTES = 65_535  # MQTT's own limit of a field


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A broker's settings; parsed once, then passed on. Files are read at each connection.

    Attributes:
        url: see `wire.broker_url`.
        username: unless the URL names one.
        password_file: its first line is the password.
        ca_file: certificates (PEM) that may sign the broker's; None: those of the system.
        cert_file, key_file: the client's certificate and its key (PEM); one file may hold both.
        profile: which limits to keep.
        protocol: the version of MQTT; auto: 5 where the broker has it.
    """

    url: str
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    profile: ProfileName = "generic"
    protocol: Protocol = "auto"

    @property
    def limits(self) -> Profile:
        return PROFILES[self.profile]

    @property
    def versions(self) -> tuple[Version, ...]:
        """Versions of MQTT to try, the better one first."""
        if self.protocol == "auto":
            return self.limits.versions
        return (_VERSIONS[self.protocol],)

    def address(self) -> BrokerUrl:
        """Return the URL, after a check of the settings as a whole; no file is read.

        Raises:
            BrokerSettingsError: some can't be right, or would silently have no effect.
        """
        url = BrokerUrl.parse(self.url)
        if url.username and self.username:
            raise _refused("username", self.username, "the URL names a user already; leave one out")
        if self.password_file and url.password:
            raise _refused("password_file", self.password_file, "the URL has a password already")
        if self.password_file and not (self.username or url.username):
            raise _refused("password_file", self.password_file, "a password needs a username")
        if self.key_file and not self.cert_file:
            raise _refused("key_file", self.key_file, "a key needs its certificate, cert_file")
        for name in ("ca_file", "cert_file"):
            value = getattr(self, name)
            if value and not url.secure:
                secure = {"mqtt": "mqtts", "ws": "wss"}[url.scheme]
                why = f"{url.scheme}:// isn't encrypted; use {secure}://, or leave {name} out"
                raise _refused(name, value, why)
        if not set(self.versions) <= set(self.limits.versions):
            spoken = " and ".join(self.limits.versions)
            raise _refused("protocol", self.protocol, f"{self.profile} speaks MQTT {spoken} only")
        return url

    def credentials(self) -> tuple[str | None, str | None]:
        """Return user name and password, each None if there is none.

        Raises:
            BrokerSettingsError: the password file can't be read or is empty.
        """
        url = BrokerUrl.parse(self.url)
        username = self.username or url.username
        if self.password_file is None:
            return username, url.password
        try:
            with Path(self.password_file).open("rb") as file:
                line = file.readline(_MAX_PASSWORD_BYTES + 1).decode()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "is not UTF-8 text"
            raise _refused("password_file", self.password_file, f"can't be read: {why}") from error
        password = line.rstrip("\r\n")
        if not password:
            raise _refused("password_file", self.password_file, "its first line is empty")
        return username, password


def _refused(field: str, value: str, why: str) -> BrokerSettingsError:
    return BrokerSettingsError(field, f"the broker's {field} is {value!r}: {why}.")
