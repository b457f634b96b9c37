"""The hub's API, as the command line uses it: typed answers, errors in the hub's own words."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from hub.address import is_loopback
from hub.api.control import (
    Decision,
    DeviceDetail,
    DeviceSummary,
    DoorNote,
    Failure,
    HubStatus,
    JobDetail,
    JobEvent,
    JobSummary,
    TokenOrder,
    Tokens,
)
from hub.errors import ConfigError, ConflictError, HubError, NotFoundError, UnreachableError
from wire.errors import MalformedError
from wire.topics import check_name

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_SUBMIT_TIMEOUT = httpx.Timeout(3600.0, connect=5.0)  # the hub may fetch and hash a base model

T = TypeVar("T")


class HubClient:
    """Talks to one hub.

    Args:
        url: ``http://host:port``.

    Raises:
        ConfigError: that isn't such a URL.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("--hub", url, "http://host:port")
        self._url = url.rstrip("/")
        # A proxy can't reach this machine's own loopback.
        self._http = httpx.Client(
            timeout=_TIMEOUT, trust_env=not is_loopback(parts.hostname), headers=_credentials()
        )

    def __enter__(self) -> "HubClient":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def status(self) -> HubStatus:
        """Return how the hub itself fares."""
        return self._ask(HubStatus, "GET", "/healthz")

    def events(self, name: str) -> list[JobEvent]:
        """Return a job's record."""
        return self._ask(list[JobEvent], "GET", f"/v1/jobs/{_name(name, 'job')}/events")

    def submit(self, text: str) -> JobSummary:
        """Submit a job file."""
        return self._ask(
            JobSummary,
            "POST",
            "/v1/jobs",
            content=text.encode(),
            headers={"content-type": "application/yaml"},
            timeout=_SUBMIT_TIMEOUT,
        )

    def jobs(self) -> list[JobSummary]:
        """Return all jobs."""
        return self._ask(list[JobSummary], "GET", "/v1/jobs")

    def job(self, name: str) -> JobDetail:
        """Return all about one job."""
        return self._ask(JobDetail, "GET", f"/v1/jobs/{_name(name, 'job')}")

    def cancel(self, name: str) -> JobSummary:
        """Stop a job."""
        return self._ask(JobSummary, "DELETE", f"/v1/jobs/{_name(name, 'job')}")

    def devices(self) -> list[DeviceSummary]:
        """Return all devices."""
        return self._ask(list[DeviceSummary], "GET", "/v1/devices")

    def device(self, name: str) -> DeviceDetail:
        """Return all about one device."""
        return self._ask(DeviceDetail, "GET", f"/v1/devices/{_name(name, 'device')}")

    def make_tokens(self, order: TokenOrder) -> Tokens:
        """Make single-use tokens."""
        return self._order(Tokens, "/v1/tokens", order)

    def decide(self, name: str, what: str, reason: str = "") -> DeviceDetail:
        """Approve, reject or revoke a device."""
        path = f"/v1/devices/{_name(name, 'device')}/{what}"
        return self._order(DeviceDetail, path, Decision(reason=reason))

    def door(self) -> list[DoorNote]:
        """Return what happened at the door."""
        return self._ask(list[DoorNote], "GET", "/v1/door")

    def _order(self, kind: type[T], path: str, body: msgspec.Struct) -> T:
        return self._ask(
            kind,
            "POST",
            path,
            content=msgspec.json.encode(body),
            headers={"content-type": "application/json"},
        )

    def adapter(self, name: str, target: Path) -> None:
        """Write the zip of a job's newest adapter into a file."""
        self._download(f"/v1/jobs/{_name(name, 'job')}/adapter", target)

    def model_manifest(self, digest: str) -> bytes:
        """Return the list of a base model's files; its sha256 is the digest."""
        with self._stream("GET", f"/v1/models/{digest}") as answer:
            return _read(answer)

    def blob(self, sha256: str, target: Path) -> None:
        """Write one file of a base model into a file."""
        self._download(f"/v1/blobs/{sha256}", target)

    def _download(self, path: str, target: Path) -> None:
        with self._stream("GET", path) as answer, target.open("wb") as file:
            for piece in answer.iter_bytes():
                file.write(piece)

    @contextmanager
    def _stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Send a request; the answer is a good one."""
        try:
            with self._http.stream(method, self._url + path, **options) as answer:
                if not answer.is_success:
                    raise _failure(answer.status_code, _read(answer))
                yield answer
        except httpx.HTTPError as error:
            raise self._away(error) from error

    def _ask(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        with self._stream(method, path, **options) as answer:
            body = _read(answer)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise HubError(
                f"{self._url} answers, but not as this version's hub: {error}. Check --hub."
            ) from error

    def _away(self, error: httpx.HTTPError) -> UnreachableError:
        reason = str(error) or type(error).__name__
        return UnreachableError(
            f"no hub answers at {self._url} ({reason}). Start one with lorikeet-hub serve, or "
            "name another with --hub."
        )


def _name(name: str, what: str) -> str:
    try:
        return check_name(name, what)
    except MalformedError as error:
        raise ConfigError(what, name, "a name", message=str(error)) from error


def _read(answer: httpx.Response) -> bytes:
    data = bytearray()
    for piece in answer.iter_bytes():
        data += piece
        if len(data) > MAX_DOCUMENT_BYTES:
            raise HubError(f"the hub's answer is larger than {MAX_DOCUMENT_BYTES} bytes.")
    return bytes(data)


def _failure(status: int, body: bytes) -> HubError:
    try:
        failure = msgspec.json.decode(body, type=Failure)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return HubError(f"the answer is HTTP status {status}. Is it a hub that --hub names?")
    match failure.kind:
        case "config":
            return ConfigError(
                failure.path or "", failure.value, failure.allowed or "", message=failure.error
            )
        case "not_found":
            return NotFoundError(failure.error)
        case "conflict":
            return ConflictError(failure.error)
        case _:
            return HubError(failure.error)


def _credentials() -> dict[str, str]:
    """Return the header with the hub's token, if the environment has one.

    Raises:
        ConfigError: it names a file that can't be read.
    """
    token = os.environ.get("LORIKEET_HUB_TOKEN", "").strip()
    file = os.environ.get("LORIKEET_HUB_TOKEN_FILE")
    if not token and file:
        try:
            token = Path(file).read_text(encoding="ascii").split("\n", 1)[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                "LORIKEET_HUB_TOKEN_FILE", file, "a file with the hub's token"
            ) from error
    return {"authorization": f"Bearer {token}"} if token else {}
