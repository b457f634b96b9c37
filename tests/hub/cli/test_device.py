from tests.hub.api.served import REASON, MemoryHub
from tests.hub.cli.conftest import Run


def test_list_shows_state_memory_and_roles(run: Run, hub: MemoryHub) -> None:
    out = run("device", "list").out
    for words in ("clinic-1", "ready", "700 MB", "notes: lora, streamed, rank 8"):
        assert words in out
    assert run("device", "list", "--json").document[0]["device"] == "clinic-1"


def test_show_says_which_rung_and_why(run: Run, hub: MemoryHub) -> None:
    out = run("device", "show", "clinic-1").out
    for words in ("x86_64, 2 cores", "memory 700 MB (--memory)", "612 MB", REASON):
        assert words in out
    document = run("device", "show", "clinic-1", "--json").document
    assert document["info"]["plans"]["notes"]["rung"] == "streamed"


def test_an_unknown_device_exits_1(run: Run, hub: MemoryHub) -> None:
    ended = run("device", "show", "other")
    assert ended.code == 1
    assert "device is 'other'" in ended.err
