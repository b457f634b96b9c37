"""Which version of MQTT is tried when."""

from wire.protocol_choice import ProtocolChoice


def test_a_broker_without_mqtt_5_is_asked_in_3_1_1_at_once_and_that_is_remembered() -> None:
    choice = ProtocolChoice(("5", "3.1.1"))
    assert choice.version == "5"
    assert choice.unanswered(refused=True)
    assert choice.version == "3.1.1"
    choice.accepted()
    assert (choice.version, choice.settled) == ("3.1.1", True)
    assert not choice.unanswered()
    assert choice.version == "3.1.1"


def test_a_broker_that_is_still_starting_is_asked_in_5_again_after_a_pause() -> None:
    choice = ProtocolChoice(("5", "3.1.1"))
    for _ in range(3):
        assert choice.unanswered()
        assert choice.version == "3.1.1"
        assert not choice.unanswered()
        assert choice.version == "5"
    choice.accepted()
    assert choice.version == "5"


def test_another_broker_in_its_place_is_found_out() -> None:
    choice = ProtocolChoice(("5", "3.1.1"))
    choice.accepted()
    assert [choice.unanswered() for _ in range(3)] == [False] * 3
    assert not choice.settled
    assert choice.unanswered()
    assert choice.version == "3.1.1"
    choice.accepted()
    assert not choice.unanswered(refused=True)  # back to 5, after a pause
    assert choice.version == "5"


def test_a_fixed_version_is_never_left() -> None:
    choice = ProtocolChoice(("5",))
    assert not choice.unanswered(refused=True)
    assert not choice.unanswered()
    assert choice.version == "5"
