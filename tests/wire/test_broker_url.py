"""Brokers' URLs: what is read, what is refused, what is never shown."""

import pytest

from wire.broker_url import BrokerUrl, without_credentials
from wire.errors import LinkError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mqtt://10.0.0.4", "mqtt://10.0.0.4:1883"),
        ("broker.local:9", "mqtt://broker.local:9"),
        ("mqtts://broker.lan/", "mqtts://broker.lan:8883"),
        ("ws://b", "ws://b:80/mqtt"),
        ("wss://b:8084/", "wss://b:8084/mqtt"),
        ("wss://b/ws", "wss://b:443/ws"),
        ("mqtt://[::1]:1884", "mqtt://[::1]:1884"),
        ("mqtts://hub:secret@b", "mqtts://b:8883"),
    ],
)
def test_a_url_is_read_with_its_schemes_port_and_path(text: str, shown: str) -> None:
    assert BrokerUrl.parse(text).shown == shown


def test_user_and_password_are_decoded() -> None:
    url = BrokerUrl.parse("wss://hub%40site:p%40ss%3Aw%2Frd@broker.lan/mqtt")
    assert (url.username, url.password) == ("hub@site", "p@ss:w/rd")
    assert (url.secure, url.websocket) == (True, True)


@pytest.mark.parametrize(
    "text",
    [
        "http://x", "mqtt://", "mqtt://x:99999", "mqtt://x:port", "mqtt://x/path", "ws://x/?q=1",
        "mqtt://:secret@x", "mqtt://[::1", "",
    ],
)  # fmt: skip
def test_an_impossible_url_is_refused_with_its_value_and_what_is_allowed(text: str) -> None:
    with pytest.raises(LinkError, match=r"broker is .*allowed is mqtt://host:port"):
        BrokerUrl.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://hub:secret@x", "mqtt://hub:sec@ret@x:99999", "mqtt://hub:secret/@x:p",
        "hub:secret@x:99999", "mqtt://:secret@x", "ws://hub:secret@x/?a#b",
    ],
)  # fmt: skip
def test_a_refusal_never_shows_credentials(text: str) -> None:
    with pytest.raises(LinkError) as caught:
        BrokerUrl.parse(text)
    assert "secret" not in str(caught.value)
    assert "sec@" not in str(caught.value)
    assert "hub" not in str(caught.value)
    assert without_credentials(text).count("@") == 0
