"""For how long is this device's certificate valid?"""

import ssl
from pathlib import Path

from edge_agent.doctor.contract import Finding, Subject, fail, ok, warn
from wire.broker_settings import BrokerSettings
from wire.broker_tls import check_files
from wire.errors import BrokerSettingsError

NAME = "certificate"
_DAY_S = 86_400.0
_SOON_DAYS = 7.0
_ADVICE = "enrol the device again, or put a new certificate in its place."


def check_certificate(subject: Subject) -> list[Finding]:
    """Look at the files that the broker's settings name."""
    broker = subject.settings.broker if subject.settings is not None else ""
    connect = BrokerSettings(url=broker) if isinstance(broker, str) else broker
    if not connect.url:
        return []
    try:
        check_files(connect)
    except BrokerSettingsError as error:
        return [fail(NAME, str(error).rstrip("."), "mend that file or setting.")]
    if connect.cert_file is None:
        return []
    return [_lifetime(connect.cert_file, subject.now)]


def _lifetime(file: str, now: float) -> Finding:
    try:
        days = (valid_until(Path(file)) - now) / _DAY_S
    except (OSError, ValueError, KeyError, ssl.SSLError) as error:
        return warn(NAME, f"{file} can't be read: {error}", _ADVICE)
    if days <= 0:
        return fail(NAME, f"{file} expired {-days:.1f} days ago", _ADVICE)
    if days < _SOON_DAYS:
        return warn(NAME, f"{file} expires in {days:.1f} days", _ADVICE)
    return ok(NAME, f"valid for {days:.0f} days more")


def valid_until(file: Path) -> float:
    """Return when the first certificate of a PEM file expires, as Unix time.

    Raises:
        ssl.SSLError, OSError, ValueError, KeyError: there is none that can be read.
    """
    # The only reader of certificates in Python's own library.
    decoded = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]
    return float(ssl.cert_time_to_seconds(decoded["notAfter"]))
