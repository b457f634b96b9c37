"""A broker's settings as a whole: what goes together, and what would silently have no effect."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from wire.broker_settings import BrokerSettings
from wire.errors import BrokerSettingsError


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"url": "mqtt://a:b@x", "username": "hub"}, "username", "names a user already"),
        ({"url": "mqtt://a:b@x", "password_file": "p"}, "password_file", "a password already"),
        ({"url": "mqtt://x", "password_file": "p"}, "password_file", "needs a username"),
        ({"url": "mqtt://x", "ca_file": "ca.pem"}, "ca_file", "use mqtts://"),
        ({"url": "ws://x", "cert_file": "c.pem"}, "cert_file", "use wss://"),
        ({"url": "mqtts://x", "key_file": "k.pem"}, "key_file", "cert_file"),
        (
            {"url": "mqtt://x", "profile": "amqtt", "protocol": "mqtt-5"},
            "protocol",
            "speaks MQTT 3.1.1 only",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    fields: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(BrokerSettingsError, match=words) as caught:
        BrokerSettings(**fields).address()
    assert caught.value.field == field
    assert "b@" not in str(caught.value)


def test_a_username_may_stand_alone() -> None:
    # Azure Event Grid asks for one beside a certificate.
    settings = BrokerSettings(url="mqtts://x", username="ward", cert_file="c.pem")
    assert settings.address().secure
    assert settings.credentials() == ("ward", None)


@pytest.mark.parametrize(
    ("content", "password"),
    [(b"p@ss w\xc3\xb6rd\nmore\n", "p@ss wörd"), (b"one", "one"), (b" spaced \r\n", " spaced ")],
)
def test_the_first_line_of_the_password_file_is_the_password(
    tmp_path: Path, content: bytes, password: str
) -> None:
    (tmp_path / "secret").write_bytes(content)
    settings = BrokerSettings(
        url="mqtt://x", username="hub", password_file=str(tmp_path / "secret")
    )
    assert settings.credentials() == ("hub", password)


@pytest.mark.parametrize("content", [None, b"", b"\nsecond", b"\xff\xfe"])
def test_a_password_file_without_a_password_is_refused_by_its_name(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    settings = BrokerSettings(url="mqtt://x", username="hub", password_file=str(file))
    with pytest.raises(BrokerSettingsError, match=str(file)):
        settings.credentials()


def test_the_profile_decides_which_versions_are_tried() -> None:
    assert BrokerSettings(url="mqtt://x").versions == ("5", "3.1.1")
    assert BrokerSettings(url="mqtt://x", profile="amqtt").versions == ("3.1.1",)
    assert BrokerSettings(url="mqtt://x", protocol="mqtt-3.1.1").versions == ("3.1.1",)


def test_settings_survive_the_way_to_another_process() -> None:
    settings = BrokerSettings(url="wss://b", ca_file="ca.pem", profile="hivemq", protocol="mqtt-5")
    assert msgspec.json.decode(msgspec.json.encode(settings), type=BrokerSettings) == settings
