from pathlib import Path

import pytest

from tests.hub.cli.conftest import Run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--broker", "mqtt://h:1", "--config", "hub.yaml"), "both name a broker"),
        (("--broker", "http://127.0.0.1"), "'http://127.0.0.1'"),
        (("--config", "no-such-file.yaml"), "no-such-file.yaml"),
        (("--fleet", "a/b"), "--fleet is 'a/b'"),
        (("--device", "#"), "--device is '#'"),
        (("--job", ""), "--job is ''"),
    ],
)
def test_what_cannot_be_watched_exits_2_and_says_why(
    run: Run, arguments: tuple[str, ...], said: str
) -> None:
    ended = run("watch", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_a_hub_files_password_is_never_shown(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    path = tmp_path / "hub.yaml"
    path.write_text("broker: {username: hub, password_file: empty}\n")
    ended = run("watch", "--config", str(path))
    assert ended.code == 2
    assert "broker.password_file" in ended.err
