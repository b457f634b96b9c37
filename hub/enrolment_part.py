"""The part ``enrolment`` of ``hub.yaml``: where devices get their certificates."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from hub.address import Address, parse_address
from hub.errors import ConfigError
from wire.broker_url import ALLOWED, BrokerUrl, without_credentials
from wire.errors import BrokerSettingsError


class EnrolmentPart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The hub as a certificate authority; off while ``listen`` is null."""

    listen: str | None = None  # host:port, HTTPS
    public_url: str | None = None  # null: https:// and `listen`
    names: list[str] = []  # more names and addresses for the HTTPS certificate
    broker_url: str | None = None  # as devices reach it; null: broker.url
    broker_folder: Path | None = None  # of broker-config; null: the broker isn't beside the hub
    certificate_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 90

    def __post_init__(self) -> None:
        if self.broker_url is not None:
            try:
                secure = BrokerUrl.parse(self.broker_url).secure
            except BrokerSettingsError as error:
                shown = without_credentials(self.broker_url)
                raise ConfigError("enrolment.broker_url", shown, ALLOWED) from error
            if not secure:
                raise ConfigError("enrolment.broker_url", self.broker_url, "mqtts:// or wss://")
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme != "https" or not parts.hostname:
                raise ConfigError("enrolment.public_url", self.public_url, "https://host[:port]")
        if self.listen is not None and self.address.wildcard and self.public_url is None:
            raise ConfigError(
                "enrolment.public_url",
                None,
                "the URL at which devices enrol",
                message=f"enrolment.public_url is missing; enrolment.listen is {self.listen}, so "
                "nobody can tell what name its certificate needs. Set it to https://NAME:PORT.",
            )

    @property
    def on(self) -> bool:
        return self.listen is not None

    @property
    def address(self) -> Address:
        """Where it listens; only if it is on."""
        return parse_address(self.listen or "", "enrolment.listen")

    @property
    def url(self) -> str:
        """As devices reach it."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        return self.address.url.replace("http://", "https://", 1)

    @property
    def server_names(self) -> list[str]:
        """All names that the HTTPS certificate needs."""
        found = [urlsplit(self.url).hostname or "localhost", *self.names, "localhost", "127.0.0.1"]
        return list(dict.fromkeys(found))

    def below(self, folder: Path) -> "EnrolmentPart":
        """Return the same with relative paths taken from ``folder``."""
        if self.broker_folder is None:
            return self
        return msgspec.structs.replace(self, broker_folder=folder / self.broker_folder)
