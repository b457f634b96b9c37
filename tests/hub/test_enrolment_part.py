"""The part ``enrolment`` of the hub's file."""

from pathlib import Path

import pytest

from hub.config import HubFile, load_hub_file
from hub.errors import ConfigError
from hub.yaml_file import parse_yaml

SECURE = "broker: {url: 'mqtts://broker.lan'}\n"


def parsed(text: str) -> HubFile:
    return parse_yaml(text, HubFile, "hub.yaml")


def test_it_is_off_by_default_and_the_broker_is_reached_as_before() -> None:
    hub = parsed("fleet: clinics")
    assert not hub.enrolment.on
    assert hub.broker_settings == hub.broker.settings()


def test_the_hub_shows_its_own_certificate_unless_another_is_named(tmp_path: Path) -> None:
    text = SECURE + "enrolment: {listen: '127.0.0.1:8443', broker_folder: broker}\n"
    (tmp_path / "hub.yaml").write_text(text)
    hub = load_hub_file(tmp_path / "hub.yaml")
    folder = tmp_path / "state" / "authority"
    own = hub._own_certificate()
    assert (own.ca_file, own.cert_file) == (folder / "ca.pem", folder / "hub.pem")
    assert hub.enrolment.broker_folder == tmp_path / "broker"
    (tmp_path / "hub.yaml").write_text(
        "broker: {url: 'mqtts://b', cert_file: c.pem}\nenrolment: {listen: '127.0.0.1:8443'}\n"
    )
    assert load_hub_file(tmp_path / "hub.yaml")._own_certificate().ca_file is None


def test_the_certificate_of_https_is_for_every_name_that_devices_may_use() -> None:
    part = parsed(
        SECURE
        + "enrolment: {listen: '0.0.0.0:8443', public_url: 'https://hub.lan:8443/', names: [h]}"
    ).enrolment
    assert part.server_names == ["hub.lan", "h", "localhost", "127.0.0.1"]
    assert part.url == "https://hub.lan:8443"
    assert parsed(SECURE + "enrolment: {listen: '127.0.0.1:8443'}").enrolment.url == (
        "https://127.0.0.1:8443"
    )


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("enrolment: {listen: '0.0.0.0:8443'}", "enrolment.public_url"),
        ("enrolment: {listen: '8443'}", "enrolment.listen"),
        ("enrolment: {listen: 'a:1', public_url: 'http://a'}", "enrolment.public_url"),
        ("enrolment: {listen: 'a:1'}", "enrolment.broker_url"),  # mqtt:// has no certificates
        ("enrolment: {listen: 'a:1', broker_url: 'mqtt://a'}", "enrolment.broker_url"),
        ("enrolment: {listen: 'a:1', broker_url: 'nonsense://a'}", "enrolment.broker_url"),
        ("enrolment: {certificate_days: 0}", "enrolment.certificate_days"),
    ],
)
def test_what_cannot_be_right_is_refused_with_its_key(text: str, path: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parsed(text)
    assert raised.value.path == path
