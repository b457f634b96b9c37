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


def test_what_must_re_enrol_is_said_with_certificate_and_door(run: Run, hub: MemoryHub) -> None:
    assert "must re-enrol" in run("device", "list").out
    out = run("device", "show", "clinic-1").out
    for words in (
        "identity: must re-enrol (two live machines)",
        "key abababababababab…",
        "certificate 4711 until 1970-01-02 00:00, 42.0 days left",
        "from [here]",
    ):
        assert words in out


def test_tokens_stand_alone_on_standard_output(run: Run, hub: MemoryHub) -> None:
    ended = run("device", "token", "--expires", "7d", "--count", "2")
    assert ended.out.split() == ["lk1.0", "lk1.1"]
    assert "enroll --hub https://hub.lan:8443" in ended.err
    assert "device approve" in ended.err
    ended = run("device", "token", "--expires", "90min", "--preauthorise", "--json")
    assert ended.document["preauthorised"]
    assert [(o.count, o.expires_s) for o in hub.orders] == [(2, 7 * 86_400), (1, 5400)]


def test_a_span_without_a_unit_is_a_usage_error(run: Run, hub: MemoryHub) -> None:
    ended = run("device", "token", "--expires", "24")
    assert ended.code == 2
    assert "--expires is '24'; allowed is a number with s, min, h or d" in ended.err


def test_decisions_are_told_with_their_reason(run: Run, hub: MemoryHub) -> None:
    assert "clinic-1: enrolled" in run("device", "approve", "clinic-1").out
    assert "clinic-1: rejected" in run("device", "reject", "clinic-1", "--reason", "no").out
    ended = run("device", "revoke", "clinic-1", "--reason", "stolen", "--json")
    assert ended.document["identity"]["state"] == "revoked"
    assert hub.decisions[-1] == ("clinic-1", "revoke", "stolen")
    assert run("device", "revoke", "other").code == 1


def test_events_show_the_door(run: Run, hub: MemoryHub) -> None:
    out = run("device", "events").out
    assert "1970-01-01 00:01" in out
    assert "asked" in out
    assert run("device", "events", "--json").document[0]["device"] == "clinic-1"
