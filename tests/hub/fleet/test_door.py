"""The door of a running hub: what it reads, and whom it shows out when."""

from pathlib import Path

import pytest

from hub.fleet.broker_folder import BrokerFolder
from hub.fleet.door import AGAIN_S, CERTIFICATES_S, LAST_WORD_S, LOG_S, Door
from hub.fleet.enrolment import Enrolment
from tests.hub.fleet.conftest import NOW
from tests.hub.fleet.test_broker_folder import CONNECTED, DENIED
from wire.topics import Topics


class Opened:
    """A guarded door beside a broker's folder, and what it asked for."""

    def __init__(self, desk: Enrolment, folder: Path) -> None:
        self.evicted: list[list[str]] = []
        self.renewed: list[float] = []
        self.broker = BrokerFolder(folder, Topics("f"))
        self.door = Door(
            desk.gate, desk.notes, desk, self.broker,
            renew=self.renewed.append, evict=self.evicted.append,
        )  # fmt: skip
        self.desk = desk

    def notes(self) -> list[tuple[str, str | None]]:
        return [(one.kind, one.device) for one in self.desk.store.door()]


@pytest.fixture
def opened(desk: Enrolment, tmp_path: Path) -> Opened:
    return Opened(desk, tmp_path)


def test_without_enrolment_nothing_is_asked_and_nothing_is_written() -> None:
    door = Door.unguarded()
    assert not door.guarded
    assert door.refusal("anybody", NOW) is None
    door.on_broker_log(b"17: anything", NOW)
    door.publish_revocations(NOW)
    door.tick(NOW)


def test_what_the_broker_refuses_is_noted_in_words(opened: Opened) -> None:
    line = b"17: OpenSSL Error[0]: error:0A000086:SSL routines::certificate verify failed"
    opened.door.on_broker_log(line, NOW)
    opened.door.on_broker_log(b"18: Client a-1 already connected, closing old connection.", NOW)
    details = [one.detail for one in opened.desk.store.door()]
    assert details == [
        "the broker refused a client: its certificate is of another authority, expired or revoked",
        "Client a-1 already connected, closing old connection.",
    ]


def test_what_was_forbidden_is_noted_every_few_seconds(opened: Opened, tmp_path: Path) -> None:
    log = tmp_path / "mosquitto.log"
    opened.door.tick(NOW)
    log.write_text(CONNECTED.format("x", "ward") + DENIED.format("x", "a/b"))
    opened.door.tick(NOW + LOG_S / 2)
    assert opened.notes() == []
    opened.door.tick(NOW + LOG_S)
    assert opened.notes() == [("forbidden", "ward")]


def test_who_is_shown_out_has_time_for_a_last_word(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "mosquitto.log").write_text(CONNECTED.format("hidden", "ward"))
    opened.broker._read = 0
    opened.door.tick(NOW)
    opened.door.show_out("ward", "ab12", NOW)
    opened.door.show_out("lab", None, NOW)  # was never here
    opened.door.tick(NOW + LAST_WORD_S - 0.1)
    assert opened.evicted == []
    opened.door.tick(NOW + LAST_WORD_S)
    opened.door.tick(NOW + LAST_WORD_S + 1)
    assert opened.evicted == [["hidden", "ward-ab12"]]
    opened.door.on_broker_log(b"17: Client hidden already connected, closing old connection.", NOW)
    assert opened.notes() == []  # that was us


def test_the_hubs_own_certificates_are_looked_at_a_few_times_a_day(opened: Opened) -> None:
    for after in (0.0, 1.0, CERTIFICATES_S, CERTIFICATES_S + 1):
        opened.door.tick(NOW + after)
    assert opened.renewed == [NOW, NOW + CERTIFICATES_S]


def test_a_list_that_no_broker_reads_is_told(opened: Opened, tmp_path: Path) -> None:
    opened.door.publish_revocations(NOW)
    assert (tmp_path / "crl.pem").exists()
    [note] = opened.desk.store.door()
    assert "no mosquitto runs there to read it" in note.detail


def test_a_probe_that_connects_and_goes_is_no_news(opened: Opened) -> None:
    for words in (b"unexpected eof while reading", b"wrong version number"):
        opened.door.on_broker_log(b"17: OpenSSL Error[0]: error:0A000126:SSL::" + words, NOW)
    assert opened.notes() == []


def test_files_that_can_not_be_written_are_noted_and_tried_again(
    desk: Enrolment, tmp_path: Path
) -> None:
    tried: list[float] = []

    def fail(now: float) -> None:
        tried.append(now)
        raise OSError(28, "No space left on device")

    door = Door(desk.gate, desk.notes, desk, None, renew=fail)
    door.tick(NOW)
    door.tick(NOW + 1)
    door.tick(NOW + AGAIN_S)
    assert tried == [NOW, NOW + AGAIN_S]
    assert "No space left" in next(iter(desk.store.door())).detail
