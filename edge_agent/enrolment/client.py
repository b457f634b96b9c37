"""The hub's enrolment address over HTTPS, as a device calls it."""

import hashlib
import hmac
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import msgspec

from edge_agent.enrolment.key import ca_der
from edge_agent.errors import AgentError, UsageError
from wire.enrolment import (
    MAX_ENROLMENT_BYTES,
    EnrolFailure,
    EnrolReply,
    EnrolRequest,
    RenewRequest,
    Token,
)

_TIMEOUT_S = 20.0


class UnreachableError(AgentError):
    """The hub doesn't answer now; another try may."""


class EnrolmentError(AgentError):
    """The hub says no, for good."""


class EnrolmentClient:
    """Talks to one hub whose authority is known.

    Args:
        hub: ``https://host:port``.
        ca: the authority's certificate (PEM).
    """

    def __init__(self, hub: str, ca: str) -> None:
        self._hub = check_url(hub)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies name and chain
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cadata=ca)
        except ssl.SSLError as error:
            raise UsageError("the authority's file holds no certificate as PEM.") from error
        self._context = context

    def enrol(self, request: EnrolRequest) -> EnrolReply:
        """Ask for a certificate, or how far that is.

        Raises:
            EnrolmentError: the hub refuses.
            UnreachableError: it doesn't answer, or not now.
        """
        return self._post("/v1/enrol", request)

    def renew(self, request: RenewRequest) -> EnrolReply:
        """Ask for a new certificate; raises the same."""
        return self._post("/v1/renew", request)

    def _post(self, path: str, body: EnrolRequest | RenewRequest) -> EnrolReply:
        request = urllib.request.Request(  # noqa: S310  (check_url allows https alone)
            self._hub + path,
            msgspec.json.encode(body),
            {"content-type": "application/json"},
            method="POST",
        )
        payload = _open(request, self._context)
        try:
            return msgspec.json.decode(payload, type=EnrolReply)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EnrolmentError(f"{self._hub} answers, but not as a hub: {error}.") from error


def check_url(hub: str) -> str:
    """Return a hub's URL without a slash at its end.

    Raises:
        UsageError: it isn't ``https://host[:port]``.
    """
    try:
        parts = urlsplit(hub)
        good = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"--hub is {hub!r}; allowed is https://host:port.")
    return hub.rstrip("/")


def pinned_ca(hub: str, token: Token) -> str:
    """Return the authority of a hub (PEM), if it is the one that the token names.

    It is fetched without verification, since nothing is known of the hub yet; the fingerprint,
    which an operator brought here, decides. Nothing secret is sent before that.

    Raises:
        EnrolmentError: it is another one.
        UnreachableError: the hub doesn't answer.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = urllib.request.Request(check_url(hub) + "/v1/ca")  # noqa: S310
    pem = _open(request, context).decode(errors="replace")
    if not hmac.compare_digest(hashlib.sha256(ca_der(pem)).digest(), token.ca_sha256):
        raise EnrolmentError(
            f"{hub} has another authority than the token names: it is another hub, or somebody "
            "on the way. Nothing was sent. Check --hub, or get a token from that hub."
        )
    return pem


def _open(request: urllib.request.Request, context: ssl.SSLContext) -> bytes:
    # No proxy of the environment and no redirection: the hub is where the operator said.
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), _NoRedirect()
    )
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return _capped(answer)
    except urllib.error.HTTPError as error:
        with error:
            failure = _failure(error.code, _capped(error))
        raise failure from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            reason = f"its certificate can't be trusted: {reason.verify_message}"
        raise UnreachableError(f"{request.host} does not answer: {reason}.") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _capped(answer: Any) -> bytes:
    data: bytes = answer.read(MAX_ENROLMENT_BYTES + 1)
    if len(data) > MAX_ENROLMENT_BYTES:
        raise EnrolmentError(f"the answer has more than {MAX_ENROLMENT_BYTES} bytes; is it a hub?")
    return data


def _failure(status: int, body: bytes) -> AgentError:
    try:
        failure = msgspec.json.decode(body, type=EnrolFailure)
    except (msgspec.DecodeError, UnicodeDecodeError):
        failure = EnrolFailure(error=f"the hub answers with HTTP status {status}.", final=False)
    if status in (429, 500, 502, 503, 504) or not failure.final:
        return UnreachableError(failure.error)
    return EnrolmentError(failure.error)
