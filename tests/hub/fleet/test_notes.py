"""What the operator can read of the door."""

from hub.fleet.notes import PAUSE_S, Notes
from hub.store.identities import IdentityStore
from tests.hub.fleet.conftest import NOW


def test_what_repeats_is_written_once_a_minute(store: IdentityStore) -> None:
    notes = Notes(store)
    for after in (0.0, 1.0, PAUSE_S - 1, PAUSE_S):
        notes.note("ignored", "ward", f"telemetry {after}", NOW + after)
    notes.note("ignored", "lab", "telemetry", NOW + 2)
    assert [(one.device, one.at - NOW) for one in store.door()] == [
        ("ward", 0.0), ("ward", PAUSE_S), ("lab", 2.0),
    ]  # fmt: skip
    assert [one.detail for one in store.door("lab")] == ["telemetry"]


def test_a_note_is_one_line_of_bounded_length(store: IdentityStore) -> None:
    Notes(store).note("broker", None, "a\nb\x1b[31m" + "x" * 1000, NOW)
    [one] = store.door()
    assert one.detail.startswith("a?b?[31mxxx")
    assert len(one.detail) == 300


def test_only_the_newest_are_kept(store: IdentityStore) -> None:
    for n in range(7):
        store.add_door(NOW, "asked", None, str(n), most=3)
    assert [one.detail for one in store.door()] == ["4", "5", "6"]
    assert [one.detail for one in store.door(limit=2)] == ["5", "6"]
