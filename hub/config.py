"""The hub's own settings, ``hub.yaml``: parsed once, paths made absolute, every error names a key.

Until there are certificates everything binds to loopback; binding elsewhere needs ``--insecure``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from hub.address import Address, parse_address
from hub.enrolment_part import EnrolmentPart
from hub.errors import ConfigError
from hub.fleet.sessions import MAX_DEVICES
from hub.yaml_file import parse_yaml, read_text
from wire.broker_profile import ProfileName
from wire.broker_settings import BrokerSettings, Protocol
from wire.broker_tls import check_files
from wire.broker_url import ALLOWED, BrokerUrl, without_credentials
from wire.derived import DERIVED, USUAL
from wire.errors import BrokerSettingsError, MalformedError
from wire.topics import check_name

_BROKER_FILES = ("password_file", "ca_file", "cert_file", "key_file")
_SQLITE = "sqlite:///"
_LEAST_TOKEN, _MOST_TOKEN_BYTES = 16, 4096


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of ``hub.yaml``."""


class BrokerPart(_Part, frozen=True, kw_only=True):
    """The MQTT broker: one that runs, or (``embedded``) one that the hub starts at ``url``.

    Relative paths count from the file's folder. Devices have options of the same names.
    """

    url: str = "mqtt://127.0.0.1:1883"
    embedded: bool = False
    username: str | None = None
    password_file: Path | None = None  # its first line is the password
    ca_file: Path | None = None  # null: the system's authorities
    cert_file: Path | None = None
    key_file: Path | None = None  # null: the key stands in cert_file
    profile: ProfileName = "generic"
    protocol: Protocol = "auto"

    def __post_init__(self) -> None:
        self._checked(self._settings.address)
        scheme = self._settings.address().scheme
        if self.embedded and scheme != "mqtt":
            allowed = f"false with {scheme}://, which the embedded broker doesn't speak"
            raise ConfigError("broker.embedded", True, allowed)

    @property
    def address(self) -> Address:
        """Where the broker is, without credentials."""
        parsed = self._settings.address()
        return Address(parsed.host, parsed.port)

    @property
    def shown_url(self) -> str:
        """The URL without credentials."""
        return self._settings.address().shown

    def settings(self) -> BrokerSettings:
        """Return what the link takes; never log it.

        Raises:
            ConfigError: a file can't be read, or holds something else.
        """
        self._checked(lambda: check_files(self._settings))
        return self._settings

    @property
    def _settings(self) -> BrokerSettings:
        files = {
            name: None if getattr(self, name) is None else str(getattr(self, name))
            for name in _BROKER_FILES
        }
        return BrokerSettings(
            url=self.url,
            username=self.username,
            profile=self.profile,
            protocol=self.protocol,
            **files,
        )

    def _checked(self, check: Callable[[], object]) -> None:
        try:
            check()
        except BrokerSettingsError as error:
            path = f"broker.{error.field}"
            value = getattr(self, error.field)
            if error.field == "url":
                raise ConfigError(path, without_credentials(self.url), ALLOWED) from error
            raise ConfigError(path, value, "", message=f"{path} is wrong: {error}") from error

    def below(self, folder: Path) -> "BrokerPart":
        """Return the same with relative paths taken from ``folder``."""
        found = {name: getattr(self, name) for name in _BROKER_FILES}
        return msgspec.structs.replace(
            self, **{name: folder / path for name, path in found.items() if path is not None}
        )


class HttpPart(_Part, frozen=True, kw_only=True):
    """Where the hub serves models and its API, and how devices reach it."""

    listen: str = "127.0.0.1:8080"
    public_url: str | None = None  # null: http:// and `listen`
    token_file: Path | None = None  # its first line is what the API's callers must send

    def __post_init__(self) -> None:
        address = parse_address(self.listen, "http.listen")
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ConfigError("http.public_url", self.public_url, "http://host[:port]")
        elif address.wildcard:
            raise ConfigError(
                "http.public_url",
                None,
                "the URL at which devices fetch models",
                message=f"http.public_url is missing; http.listen is {self.listen}, so devices "
                "can't know where to fetch models. Set it to http://ADDRESS:PORT.",
            )

    @property
    def address(self) -> Address:
        return parse_address(self.listen, "http.listen")

    def token(self) -> str | None:
        """Return what callers must send; None: everybody is let in.

        Raises:
            ConfigError: the file can't be read, or its first line is no token.
        """
        if self.token_file is None:
            return None
        try:
            with self.token_file.open("rb") as file:
                token = file.readline(_MOST_TOKEN_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                "http.token_file", str(self.token_file), "a file that can be read, of ASCII letters"
            ) from error
        if len(token) < _LEAST_TOKEN or any(letter.isspace() for letter in token):
            raise ConfigError(
                "http.token_file",
                str(self.token_file),
                f"a file whose first line is a token of {_LEAST_TOKEN} letters or more, such as "
                "openssl rand -hex 32 makes",
            )
        return token

    def below(self, folder: Path) -> "HttpPart":
        """Return the same with a relative path taken from ``folder``."""
        if self.token_file is None:
            return self
        return msgspec.structs.replace(self, token_file=folder / self.token_file)


class StorePart(_Part, frozen=True, kw_only=True):
    """Where the hub keeps its record (SQLite), blobs, and published adapters."""

    database: str = "sqlite:///state/hub.db"
    blobs: Path = Path("state/blobs")
    folder: Path | None = None  # null: the folder that holds `blobs`

    def __post_init__(self) -> None:
        path = self.database.removeprefix(_SQLITE)
        if not self.database.startswith(_SQLITE) or not path.strip("/") or path == ":memory:":
            raise ConfigError("store.database", self.database, f"{_SQLITE}PATH")

    @property
    def database_path(self) -> Path:
        return Path(self.database.removeprefix(_SQLITE))

    @property
    def state_folder(self) -> Path:
        """Where everything else goes that must outlive a restart."""
        return self.folder if self.folder is not None else self.blobs.parent

    def below(self, folder: Path) -> "StorePart":
        """Return the same with relative paths taken from ``folder``."""
        return StorePart(
            database=f"{_SQLITE}{folder / self.database_path}",
            blobs=folder / self.blobs,
            folder=folder / self.folder if self.folder is not None else None,
        )


class ModelsPart(_Part, frozen=True, kw_only=True):
    """What the hub makes of jobs' bases for devices without torch, the preferred kind first."""

    derived: list[str] = msgspec.field(default_factory=lambda: list(USUAL))

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.derived if kind not in DERIVED]
        if unknown or len(set(self.derived)) != len(self.derived):
            raise ConfigError(
                "models.derived", self.derived, f"a list, each once, of {', '.join(DERIVED)}"
            )


class HubFile(_Part, frozen=True, kw_only=True):
    """The hub's settings; every key has a default."""

    fleet: str = "default"
    broker: BrokerPart = BrokerPart()
    http: HttpPart = HttpPart()
    store: StorePart = StorePart()
    models: ModelsPart = ModelsPart()
    enrolment: EnrolmentPart = EnrolmentPart()
    max_devices: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = MAX_DEVICES

    def __post_init__(self) -> None:
        try:
            check_name(self.fleet, "fleet")
        except MalformedError as error:
            allowed = "1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit"
            raise ConfigError("fleet", self.fleet, allowed) from error
        secure = BrokerUrl.parse(self.broker.url).secure
        if self.enrolment.on and not secure and self.enrolment.broker_url is None:
            raise ConfigError(
                "enrolment.broker_url",
                None,
                "mqtts:// or wss://",
                message="enrolment.broker_url is missing; broker.url is "
                f"{self.broker.shown_url}, where certificates have no effect. Set either one to "
                "mqtts://NAME:PORT.",
            )

    @property
    def authority_folder(self) -> Path:
        """Where the hub's authority and its own certificates are."""
        return self.store.state_folder / "authority"

    @property
    def broker_settings(self) -> BrokerSettings:
        """What the hub's link takes: with its own certificate where it makes them."""
        return self._own_certificate().settings()

    def _own_certificate(self) -> BrokerPart:
        broker = self.broker
        secure = BrokerUrl.parse(broker.url).secure
        if not self.enrolment.on or not secure or broker.cert_file is not None:
            return broker
        folder = self.authority_folder
        return msgspec.structs.replace(
            broker,
            ca_file=broker.ca_file or folder / "ca.pem",
            cert_file=folder / "hub.pem",
            key_file=folder / "hub.key",
        )


def load_hub_file(path: Path, *, insecure: bool = False) -> HubFile:
    """Return the settings of a ``hub.yaml``, with paths taken from the file's folder.

    Args:
        path: the file.
        insecure: allow the hub to listen elsewhere than on loopback without credentials.

    Raises:
        ConfigError: a key or value isn't allowed; the error names the key's path.
    """
    parsed = parse_yaml(read_text(path), HubFile, str(path))
    folder = path.resolve().parent
    if not insecure:
        check_bindings(parsed)
    return msgspec.structs.replace(
        parsed,
        broker=parsed.broker.below(folder),
        http=parsed.http.below(folder),
        store=parsed.store.below(folder),
        enrolment=parsed.enrolment.below(folder),
    )


def check_bindings(config: HubFile) -> None:
    """Refuse to listen where strangers may connect.

    Raises:
        ConfigError: HTTP, or the embedded broker, would listen elsewhere than on loopback.
    """
    if not config.http.address.loopback and config.http.token_file is None:
        raise _open_to_strangers("http.listen", config.http.listen)
    if config.broker.embedded and not config.broker.address.loopback:
        raise _open_to_strangers("broker.url", config.broker.shown_url)


def _open_to_strangers(path: str, value: str) -> ConfigError:
    return ConfigError(
        path,
        value,
        "an address of the loopback interface",
        message=f"{path} is {value}; whoever reaches it could use the hub without credentials. "
        "Listen on 127.0.0.1, set http.token_file for HTTP, or pass --insecure if the network is "
        "yours alone.",
    )
