"""Events as JSON."""

import typing
from typing import Any

import msgspec
import pytest

from hub.rounds import events
from wire.messages import Evaluation


def test_each_event_names_its_kind() -> None:
    payload = events.encode_event(events.DeviceLost(device="a"))
    assert msgspec.json.decode(payload) == {"kind": "DeviceLost", "device": "a"}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_number_that_json_cannot_carry_is_refused(loss: float) -> None:
    lie = events.Evaluated(
        round=1,
        device="a",
        evaluations=(Evaluation(variant="adapter", loss=loss, tokens=1),),
    )
    with pytest.raises(ValueError, match="can't be logged"):
        events.encode_event(lie)


def test_a_log_from_before_there_were_gates_is_read() -> None:
    """As version 0.1's hub wrote them."""
    submitted = events.decode_event(
        b'{"kind":"Submitted","rules":{"job":"j","rounds":2,"evaluation_s":120.0,'
        b'"max_staleness":4},"start":"s"}'
    )
    assert isinstance(submitted, events.Submitted)
    assert (submitted.rules.publish_if, submitted.rules.until) == (None, None)
    for line in (
        b'{"kind":"Taken","round":1,"device":"a"}',
        b'{"kind":"Declined","round":1,"device":"a","reason":"no"}',
        b'{"kind":"TaskFailed","round":1,"device":"a","reason":"no"}',
        b'{"kind":"Evaluated","round":1,"device":"a","evaluations":[]}',
    ):
        event: Any = events.decode_event(line)
        assert not event.candidate


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError, match="Exploded"):
        events.decode_event(b'{"kind": "Exploded"}')


def test_every_kind_fits_the_logs_column() -> None:
    kinds = [kind.__name__ for kind in typing.get_args(events.Event)]
    assert len(kinds) == len(set(kinds)) == 16
    assert max(map(len, kinds)) <= 32
