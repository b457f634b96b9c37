import sys
from pathlib import Path
from types import ModuleType

import pytest

from hub.config import HubFile
from tests.hub.cli.conftest import Run


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[HubFile]:
    """Stand in for the hub itself; what it was started with is kept."""
    settings: list[HubFile] = []
    module = ModuleType("hub.serve")
    module.run = settings.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hub.serve", module)
    return settings


def test_serve_runs_the_hub_with_its_settings(
    run: Run, started: list[HubFile], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("hunter2")
    path = tmp_path / "hub.yaml"
    path.write_text("fleet: clinics\nbroker: {username: hub, password_file: secret}\n")
    document = run("serve", "--config", str(path), "--json").document
    assert [settings.fleet for settings in started] == ["clinics"]
    assert (document["fleet"], document["http"]) == ("clinics", "http://127.0.0.1:8080")
    assert document["broker"] == "mqtt://127.0.0.1:1883"


def test_a_bad_setting_exits_2_and_starts_nothing(
    run: Run, started: list[HubFile], tmp_path: Path
) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text("brokr: {}")
    ended = run("serve", "--config", str(path))
    assert (ended.code, started) == (2, [])
    assert "brokr is not known; did you mean broker?" in ended.err


def test_listening_for_others_needs_insecure(
    run: Run, started: list[HubFile], tmp_path: Path
) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text("http: {listen: '0.0.0.0:8080', public_url: 'http://hub.lan:8080'}")
    assert run("serve", "--config", str(path)).code == 2
    assert not started
    assert run("serve", "--config", str(path), "--insecure").code == 0
    assert started[0].http.address.host == "0.0.0.0"  # noqa: S104 - what the file says
