from pathlib import Path

import pytest

from hub.config import Address, HubFile, load_hub_file
from hub.errors import ConfigError
from wire.link import BrokerUrl

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
    assert config.broker.link_url() == "mqtt://127.0.0.1:1883"
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
    broker = load(tmp_path, text).broker
    assert "p@ss" not in repr(broker)
    assert BrokerUrl.parse(broker.link_url()) == BrokerUrl("broker.lan", 1884, "hub", "p@ss:w/rd")


@pytest.mark.parametrize("content", ["", "\nsecond line"])
def test_a_password_file_without_a_password_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    broker = load(tmp_path, "broker: {username: hub, password_file: secret}").broker
    with pytest.raises(ConfigError, match=r"broker\.password_file"):
        broker.link_url()


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("flet: x", "flet", "did you mean fleet?"),
        ("broker: {uri: x}", "broker.uri", "did you mean broker.url?"),
        ("fleet: a/b", "fleet", "is 'a/b'"),
        ("broker: {url: 'https://x'}", "broker.url", "allowed is mqtt://host:port"),
        ("broker: {url: 'mqtt://x:99999'}", "broker.url", "is 'mqtt://x:99999'"),
        ("broker: {embedded: maybe}", "broker.embedded", "true or false"),
        ("broker: {username: hub}", "broker.password_file", "go together"),
        ("broker: {password_file: x}", "broker.username", "go together"),
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
