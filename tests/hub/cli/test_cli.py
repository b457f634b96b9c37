import subprocess
import sys

import pytest

from tests.hub.cli.conftest import Run

VERBS = [
    ("serve",),
    ("demo",),
    ("watch",),
    ("aggregate",),
    ("job", "submit"),
    ("job", "list"),
    ("job", "show"),
    ("job", "cancel"),
    ("device", "list"),
    ("device", "show"),
    ("adapter", "list"),
    ("adapter", "export"),
]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_teaches_with_an_example_and_takes_json(run: Run, verb: tuple[str, ...]) -> None:
    ended = run(*verb, "--help")
    assert ended.code == 0
    assert f"Example: lorikeet-hub {' '.join(verb)}" in ended.out
    assert "--json" in ended.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("job", "show"),
        ("job", "submit"),
        ("serve", "--conf", "x"),
        ("simulate",),
        ("demo", "--rounds", "0"),
        ("adapter", "export", "x", "--out", "y", "--format", "tflite"),
    ],
)
def test_usage_errors_exit_2_and_print_nothing_on_stdout(
    run: Run, arguments: tuple[str, ...]
) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err


def test_a_hub_that_is_away_exits_1_with_what_to_do(run: Run) -> None:
    ended = run("job", "list", "--hub", "http://127.0.0.1:9")
    assert (ended.code, ended.out) == (1, "")
    assert "no hub answers at http://127.0.0.1:9" in ended.err
    assert "lorikeet-hub serve" in ended.err


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "mqtt://x", "http://"])
def test_what_is_no_address_of_a_hub_exits_2(run: Run, url: str) -> None:
    ended = run("device", "list", "--hub", url)
    assert ended.code == 2
    assert f"--hub is {url!r}; allowed is http://host:port" in ended.err


def test_help_loads_neither_numpy_nor_a_web_framework() -> None:
    code = (
        "import sys, hub.cli\n"
        "heavy = {'numpy', 'torch', 'fastapi', 'httpx', 'sqlalchemy', 'yaml'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
