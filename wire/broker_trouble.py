"""Why a broker can't be reached, in words: what, which value, what to do.

Reasons are compared by their text to be said once each, so nothing here varies from one attempt
to the next. Sources: OpenSSL's verification codes (x509_vfy.h), TLS alerts (RFC 8446, section 6),
reason codes of MQTT 5 (section 2.4).
"""

import socket
import ssl

from wire.broker_settings import BrokerSettings
from wire.errors import WireError

_EXPIRED, _NOT_YET = 10, 9
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
_WRONG_HOST = {62, 64}
#: What a broker says when it doesn't take our certificate.
_OUR_CERTIFICATE = {
    "CERTIFICATE_REQUIRED": "it asks for a client certificate; set cert_file and key_file",
    "UNKNOWN_CA": "it doesn't know who signed our certificate",
    "CERTIFICATE_EXPIRED": "our certificate has expired",
    "BAD_CERTIFICATE": "it doesn't take our certificate",
    "CERTIFICATE_REVOKED": "our certificate was revoked",
    "CERTIFICATE_UNKNOWN": "it doesn't take our certificate",
    "ACCESS_DENIED": "it doesn't take our certificate",
}
#: What a port without TLS makes of our greeting: it answers in MQTT or HTTP, or closes.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING")
_BAD_CREDENTIALS = {0x86, 0x87}  # of MQTT 5; paho turns the codes 4 and 5 of 3.1.1 into these
_BAD_CLIENT_ID = 0x85
_SERVER_BUSY = {0x88, 0x89}


def explain(error: BaseException, settings: BrokerSettings) -> str:
    """Return why a connection could not be made, or broke."""
    match error:
        case WireError():
            words = str(error).removesuffix(".")
        case ssl.SSLCertVerificationError():
            words = _certificate(error, settings)
        case ssl.SSLError():
            words = _tls(error, settings)
        case socket.gaierror():
            words = f"its name can't be resolved: {error.strerror}"
        case TimeoutError():
            words = "no answer in time"
        case ConnectionError() if "WebSocket" in str(error):
            path = settings.address().path
            words = f"its port is no WebSocket with MQTT at {path}; use mqtt://, or another path"
        case _:
            words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return words


def refusal(code: int, words: str, settings: BrokerSettings) -> str:
    """Return why a broker refused a connection.

    Args:
        code: the reason code, as of MQTT 5.
        words: its name.
        settings: of the connection.
    """
    said = f"it refused the connection: {words}"
    if code in _BAD_CREDENTIALS:
        who = "username and password_file" if settings.cert_file is None else "cert_file"
        return f"{said}; check {who}, and what the broker lets this client do"
    if code == _BAD_CLIENT_ID:
        return f"{said}; the device's id may be too long for it"
    if code in _SERVER_BUSY:
        return f"{said}; it may take us later"
    return said


def no_answer(settings: BrokerSettings) -> str:
    """Return what to think of a connection that was closed, or stayed silent, at CONNECT."""
    address = settings.address()
    if address.secure:
        return "it closed the connection without an answer; it may ask for a client certificate"
    hint = {"mqtt": "mqtts", "ws": "wss"}[address.scheme]
    return f"it gave no answer to CONNECT; a port with TLS needs {hint}://"


def _certificate(error: ssl.SSLCertVerificationError, settings: BrokerSettings) -> str:
    host = settings.address().host
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate has expired; renew it there, or set this machine's clock"
    if code == _NOT_YET:
        return "its certificate is not valid yet; set this machine's clock"
    if code in _WRONG_HOST:
        return f"its certificate is not for {host}; connect to a name that stands in it"
    if code in _UNKNOWN_AUTHORITY:
        trusted = settings.ca_file or "the system's authorities"
        return f"its certificate is not signed by {trusted}; set ca_file to who signed it"
    return f"its certificate can't be trusted: {error.verify_message}"


def _tls(error: ssl.SSLError, settings: BrokerSettings) -> str:
    reason = error.reason or ""
    for alert, words in _OUR_CERTIFICATE.items():
        if reason.endswith(f"ALERT_{alert}"):
            return f"{words} (cert_file {settings.cert_file})" if settings.cert_file else words
    if reason in _NO_TLS:
        return "its port doesn't speak TLS; use mqtt:// or ws://, or its port with TLS"
    return f"TLS failed: {reason.replace('_', ' ').lower() or error}"
