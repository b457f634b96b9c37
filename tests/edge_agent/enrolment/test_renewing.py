"""When an agent renews, and what it does when that fails; the child is a real process."""

from pathlib import Path

import pytest

from edge_agent.enrolment import renewing
from edge_agent.enrolment.identity import DAY_S, Identity, save_identity
from edge_agent.enrolment.key import device_key
from edge_agent.enrolment.renewing import FIRST_RETRY_S, LEAST_PAUSE_S, Renewing
from tests.system.hub_process import poll

WARD = Identity(
    device="ward", fleet="f", broker="mqtts://b", hub="https://127.0.0.1:9", not_before=0.0,
    not_after=90 * DAY_S,
)  # fmt: skip


@pytest.fixture
def state(tmp_path: Path) -> Path:
    device_key(tmp_path)
    save_identity(tmp_path, WARD, "certificate", "no certificate")
    return tmp_path


def test_nothing_happens_before_two_thirds_or_without_an_identity(state: Path) -> None:
    for folder, days in ((state, 59.9), (None, 1000.0)):
        one = Renewing(folder, lambda: None, lambda _: None, lambda days=days: days * DAY_S)  # type: ignore[misc]
        one.tick(1000.0)
        assert one._child is None
    assert Renewing(state, lambda: None, lambda _: None, lambda: 89 * DAY_S).days_left == 1.0
    assert Renewing(None, lambda: None, lambda _: None).days_left is None


def test_a_failure_is_told_and_tried_again_after_a_growing_pause(state: Path) -> None:
    failures: list[str] = []
    one = Renewing(state, lambda: None, failures.append, lambda: 61 * DAY_S)
    now = 1000.0

    def fails(at: float) -> bool:
        before = len(failures)
        one.tick(at)
        if one._child is None:
            return False
        poll("the child's end", lambda: one.tick(at) or len(failures) > before)
        return True

    assert fails(now)
    assert "holds no certificate" in failures[0]
    assert not fails(now + FIRST_RETRY_S - 1)
    assert fails(now + FIRST_RETRY_S)
    assert not fails(now + 3 * FIRST_RETRY_S - 1)
    assert fails(now + 3 * FIRST_RETRY_S)


def test_a_new_certificate_is_taken_up(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[float | None] = []
    one = Renewing(state, lambda: done.append(one.days_left), pytest.fail, lambda: 61 * DAY_S)
    monkeypatch.setattr(renewing.sys, "executable", "/bin/true")  # in place of the child
    one.tick(1000.0)
    later = {"not_before": 61 * DAY_S, "not_after": 151 * DAY_S}
    save_identity(state, Identity(**{**_fields(WARD), **later}), "new", "ca")
    poll("the child's end", lambda: one.tick(1001.0) or done)
    assert done == [90.0]
    one.tick(5000.0)
    assert one._child is None


def test_a_clock_that_is_years_ahead_renews_a_few_times_a_day(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    one = Renewing(state, lambda: done.append(1), pytest.fail, lambda: 9000 * DAY_S)
    monkeypatch.setattr(renewing.sys, "executable", "/bin/true")
    one.tick(1000.0)
    poll("the child's end", lambda: one.tick(1001.0) or done)
    one.tick(1000.0 + LEAST_PAUSE_S)
    assert one._child is None
    one.tick(1001.0 + LEAST_PAUSE_S)
    assert one._child is not None
    one.close()


def test_a_child_that_hangs_is_ended(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[str] = []
    script = state / "hangs"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    one = Renewing(state, lambda: None, failures.append, lambda: 61 * DAY_S)
    monkeypatch.setattr(renewing.sys, "executable", str(script))
    one.tick(1000.0)
    poll("the child's end", lambda: one.tick(2000.0) or failures)
    assert failures == ["the renewal ended with code -9"]
    one.tick(9000.0)
    one.close()
    assert one._child is None


def _fields(identity: Identity) -> dict[str, object]:
    return {name: getattr(identity, name) for name in identity.__struct_fields__}
