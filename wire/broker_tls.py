"""TLS towards a broker: its certificate is always verified, ours is shown if there is one.

There is no switch that turns verification off: whoever has a private authority names its
certificate (``ca_file``).
"""

import ssl
from pathlib import Path

from wire.broker_settings import BrokerSettings
from wire.errors import BrokerSettingsError


def tls_context(settings: BrokerSettings) -> ssl.SSLContext:
    """Return the context for one connection: TLS 1.2 or later, host name and chain verified.

    Made anew for each connection, so that files may be replaced while an agent runs.

    Raises:
        BrokerSettingsError: a file can't be read, isn't PEM, or the key isn't the certificate's.
    """
    if settings.ca_file is None:
        context = ssl.create_default_context()  # the system's authorities
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, too; no authority yet
        _readable("ca_file", settings.ca_file)
        try:
            context.load_verify_locations(cafile=settings.ca_file)
        except ssl.SSLError as error:
            raise _refused("ca_file", settings.ca_file, "holds no certificate as PEM") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    address = settings.address()
    alpn = settings.limits.alpn.get(address.port)
    if alpn is not None and not address.websocket:
        context.set_alpn_protocols([alpn])
    if settings.cert_file is not None:
        _load_certificate(context, settings, settings.cert_file)
    return context


def check_files(settings: BrokerSettings) -> None:
    """Check all files that the settings name, before the first connection.

    Raises:
        BrokerSettingsError: one can't be used.
    """
    settings.credentials()
    if settings.address().secure:
        tls_context(settings)


def _load_certificate(context: ssl.SSLContext, settings: BrokerSettings, cert_file: str) -> None:
    _readable("cert_file", cert_file)
    key_file = settings.key_file or cert_file
    _readable("key_file", key_file)

    def encrypted() -> str:
        # Without this, OpenSSL would ask for a password on the terminal.
        raise _refused("key_file", key_file, "is encrypted; store it decrypted, readable by you")

    try:
        context.load_cert_chain(cert_file, key_file, password=encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _refused("key_file", key_file, f"is not the key of {cert_file}") from error
        why = f"with {key_file} it is no certificate and key as PEM"
        raise _refused("cert_file", cert_file, why) from error


def _readable(field: str, path: str) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        raise _refused(field, path, f"can't be read: {error.strerror}") from error


def _refused(field: str, path: str, why: str) -> BrokerSettingsError:
    return BrokerSettingsError(field, f"the broker's {field} is {path!r}: {why}.")
