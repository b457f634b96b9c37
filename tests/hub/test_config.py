from pathlib import Path

import pytest

from hub.config import Address, HubFile, load_hub_file
from hub.errors import ConfigError
from wire.broker_settings import BrokerSettings

FROM_THE_DESIGN = """\
fleet: clinics
broker: {url: "mqtt://127.0.0.1:1883"}
http: {listen: "127.0.0.1:8080"}
store: {database: "sqlite:///state/hub.db", blobs: state/blobs}
"""


def load(folder: Path, text: str, *, insecure: bool = False) -> HubFile:
    path = folder / "hub.yaml"
    path.write_text(text)
    return load_hub_file(path, insecure=insecure)


def test_the_example_of_the_design_is_read_and_paths_start_at_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, FROM_THE_DESIGN)
    assert config.fleet == "clinics"
    assert config.broker.settings() == BrokerSettings(url="mqtt://127.0.0.1:1883")
    assert config.broker.embedded is False
    assert config.http.address == Address("127.0.0.1", 8080)
    assert config.store.database == f"sqlite:///{tmp_path}/state/hub.db"
    assert config.store.database_path == tmp_path / "state/hub.db"
    assert config.store.blobs == tmp_path / "state/blobs"
    assert config.store.state_folder == tmp_path / "state"


def test_every_key_has_the_default_of_the_design(tmp_path: Path) -> None:
    assert load(tmp_path, "{}") == load(tmp_path, FROM_THE_DESIGN.replace("clinics", "default"))


def test_absolute_paths_stay(tmp_path: Path) -> None:
    text = "store: {database: 'sqlite:////var/hub.db', blobs: /data/blobs, folder: /data/hub}"
    store = load(tmp_path, text).store
    assert store.database_path == Path("/var/hub.db")
    assert store.blobs == Path("/data/blobs")
    assert store.state_folder == Path("/data/hub")


def test_the_password_is_read_from_its_file_and_stays_out_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss:w/rd\n")
    text = "broker: {url: 'mqtt://broker.lan:1884', username: hub, password_file: secret}"
    settings = load(tmp_path, text).broker.settings()
    assert "p@ss" not in repr(settings)
    assert settings.credentials() == ("hub", "p@ss:w/rd")


@pytest.mark.parametrize("content", ["", "\nsecond line"])
def test_a_password_file_without_a_password_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    broker = load(tmp_path, "broker: {username: hub, password_file: secret}").broker
    with pytest.raises(ConfigError, match=r"broker\.password_file"):
        broker.settings()


def test_the_files_of_tls_are_taken_from_the_files_folder(tmp_path: Path) -> None:
    text = "broker: {url: 'mqtts://b', ca_file: ca.pem, cert_file: /c.pem, profile: aws-iot}"
    broker = load(tmp_path, text).broker
    assert (broker.ca_file, broker.cert_file) == (tmp_path / "ca.pem", Path("/c.pem"))
    assert (broker.address.port, broker.profile) == (8883, "aws-iot")
    with pytest.raises(ConfigError, match=rf"broker\.ca_file .*{tmp_path}/ca\.pem.*can't be read"):
        broker.settings()


def test_what_is_shown_of_a_url_has_no_credentials(tmp_path: Path) -> None:
    broker = load(tmp_path, "broker: {url: 'mqtt://hub:secret@broker.lan'}").broker
    assert broker.shown_url == "mqtt://broker.lan:1883"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "broker: {url: 'http://hub:secret@broker.lan'}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("flet: x", "flet", "did you mean fleet?"),
        ("broker: {uri: x}", "broker.uri", "did you mean broker.url?"),
        ("fleet: a/b", "fleet", "is 'a/b'"),
        ("broker: {url: 'https://x'}", "broker.url", "allowed is mqtt://host:port"),
        ("broker: {url: 'mqtt://x:99999'}", "broker.url", "is 'mqtt://x:99999'"),
        ("broker: {embedded: maybe}", "broker.embedded", "true or false"),
        ("broker: {password_file: x}", "broker.password_file", "needs a username"),
        ("broker: {url: 'mqtt://x', ca_file: x}", "broker.ca_file", "use mqtts://"),
        ("broker: {url: 'ws://x', cert_file: x}", "broker.cert_file", "use wss://"),
        ("broker: {url: 'mqtts://x', key_file: x}", "broker.key_file", "cert_file"),
        ("broker: {profile: aws}", "broker.profile", "aws-iot, azure-event-grid"),
        ("broker: {profile: amqtt, protocol: mqtt-5}", "broker.protocol", "speaks MQTT 3.1.1 only"),
        ("broker: {protocol: 5}", "broker.protocol", "auto, mqtt-3.1.1 or mqtt-5"),
        ("broker: {url: 'mqtts://127.0.0.1', embedded: true}", "broker.embedded", "mqtts://"),
        (
            "broker: {url: 'mqtt://a:b@x', username: hub, password_file: x}",
            "broker.username",
            "names a user already",
        ),
        ("http: {listen: 8080}", "http.listen", "is 8080; allowed is text"),
        ("http: {listen: localhost}", "http.listen", "host:port"),
        ("http: {listen: '127.0.0.1:70000'}", "http.listen", "host:port"),
        ("http: {listen: '127.0.0.1:80/x'}", "http.listen", "host:port"),
        ("http: {listen: '::1:80:x'}", "http.listen", "host:port"),
        ("http: {public_url: 'ftp://x'}", "http.public_url", "http://host"),
        ("store: {database: 'postgresql://x'}", "store.database", "sqlite:///PATH"),
        ("store: {database: 'sqlite://'}", "store.database", "sqlite:///PATH"),
        ("store: {database: 'sqlite:///:memory:'}", "store.database", "sqlite:///PATH"),
        ("store: {blobs: 7}", "store.blobs", "is 7; allowed is text"),
        ("store: {blobs: ''}", "store.blobs", "is ''"),
    ],
)
def test_a_bad_setting_is_refused_with_its_path(
    tmp_path: Path, text: str, path: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert caught.value.path == path
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("http: {listen: '0.0.0.0:8080', public_url: 'http://hub.lan:8080'}", "http.listen"),
        ("http: {listen: 'hub.lan:8080'}", "http.listen"),
        ("http: {listen: '192.168.1.4:8080'}", "http.listen"),
        ("broker: {url: 'mqtt://0.0.0.0', embedded: true}", "broker.url"),
    ],
)
def test_listening_for_strangers_needs_insecure(tmp_path: Path, text: str, path: str) -> None:
    with pytest.raises(ConfigError, match="--insecure") as caught:
        load(tmp_path, text)
    assert caught.value.path == path
    assert load(tmp_path, text, insecure=True).fleet == "default"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:8080", "'[::1]:8080'"])
def test_loopback_needs_no_insecure(tmp_path: Path, listen: str) -> None:
    assert load(tmp_path, f"http: {{listen: {listen}}}").http.address.loopback


def test_a_broker_elsewhere_is_only_connected_to(tmp_path: Path) -> None:
    assert load(tmp_path, "broker: {url: 'mqtt://broker.lan'}").broker.address.port == 1883


def test_a_wildcard_address_needs_a_public_url(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"http\.public_url is missing"):
        load(tmp_path, "http: {listen: '0.0.0.0:8080'}", insecure=True)


@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_hub_that_may_know_no_device_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="max_devices"):
        load(tmp_path, f"max_devices: {value}")


def test_a_token_takes_the_place_of_insecure(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-some-letters\nnote\n")
    text = "http: {listen: '192.168.1.4:8080', token_file: token}"
    assert load(tmp_path, text).http.token() == "a-token-of-some-letters"
    assert load(tmp_path, "{}").http.token() is None


@pytest.mark.parametrize("content", [None, "", "short\n", "two words of a token\n", "é" * 20])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    config = load(tmp_path, "http: {token_file: token}")
    with pytest.raises(ConfigError) as caught:
        config.http.token()
    assert caught.value.path == "http.token_file"
