import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.demo.report import MAX_EVENTS, write_report

Make = Callable[..., dict[str, Any]]


class Reader(HTMLParser):
    """Checks that elements nest, and gathers words and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(folder: Path, summary: dict[str, Any], events: list[dict[str, Any]]) -> Reader:
    reader = Reader()
    reader.feed(write_report(folder, summary, events).read_text("utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def text_of(reader: Reader) -> str:
    return " ".join(" ".join(reader.words).split())


def test_the_page_draws_who_holds_what(tmp_path: Path, run: Make, device: Make) -> None:
    held = [device(passages={"email": 4}), device(id="pi-2", passages={"email": 1, "xml": 9})]
    assert "pi-1, email: 4" in text_of(read(tmp_path, run(devices=held), []))
    assert "Who holds what" not in text_of(read(tmp_path, run(), []))


def test_the_page_tells_the_run(tmp_path: Path, run: Make) -> None:
    text = text_of(read(tmp_path, run(), [{"kind": "Opened", "round": 1}]))

    for words in (
        "Lorikeet: demo",
        "3 devices worked on one adapter for 2 of 2 rounds",
        "1 trained LoRA factors, 1 trained a soft prompt, 1 only evaluated",
        "−20.0 %",  # 2.5 -> 2.0
        "without the soft prompt +2.5 %",  # 2.0 -> 2.05
        "1 min 58 s",
        "over mosquitto, seed 7",
        "needs 440 MiB of 500 MiB",
        "http, json",
        "2.750",  # the worst tenth after round 1
        "0.125",  # the spread over devices
        "143 MiB",
        "2.00 GiB",
        "lorikeet-hub demo --seed 7",
        "rank: 8",
        "ends 2 s",
        '{"kind": "Opened", "round": 1}',
    ):
        assert words in text, words


def test_it_asks_nothing_of_the_network_and_runs_no_script(tmp_path: Path, run: Make) -> None:
    reader = read(tmp_path, run(), [])

    assert not {"script", "link", "iframe", "img", "object", "base"} & set(reader.names)
    assert not [a for a in reader.attributes if a[1] in ("src", "href", "style", "onload")]
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "http:" not in page and "https:" not in page
    assert not re.search(r"@import|url\(", page)


def test_four_pictures_say_in_words_what_they_show(tmp_path: Path, run: Make) -> None:
    reader = read(tmp_path, run(), [])

    labels = [value for tag, key, value in reader.attributes if (tag, key) == ("svg", "aria-label")]
    assert labels[0] == (
        "Held-out loss in nats per token: base 2.500, round 1 2.250, round 2 2.000."
    )
    assert "pi-1 2.500 → 2.000" in labels[1]
    assert "ph-2 sent 900 B and received 4.30 MB" in labels[2]
    assert "pi-1 450 MiB of 500 MiB  (90 %)" in labels[3]
    assert len(labels) == 4


def test_what_devices_and_people_wrote_is_text_only(
    tmp_path: Path, run: Make, device: Make
) -> None:
    evil = "<script>alert('1')</script>\"><b>&amp;"
    summary = run(
        devices=[device(id=evil, reason=evil, rung=evil, role=evil, packages=[evil])],
        broker=evil,
        command=evil,
        adapter=evil,
        job={"job": evil, evil: evil},
        rounds_detail=[
            {"round": 1, "phase": evil, "members": [{"device": evil, "role": evil, "reason": evil}]}
        ],
    )

    reader = read(tmp_path, summary, [{evil: evil}])

    assert not {"script", "b"} & set(reader.names)
    assert evil in "".join(reader.words)


def test_a_run_that_ended_before_anything_was_measured_has_a_report(
    tmp_path: Path, device: Make
) -> None:
    bare = {"id": "pi-1", "role": "none", "memory_limit_bytes": 1000}
    for devices in ([], [bare]):
        text = text_of(read(tmp_path, {"devices": devices}, []))

        assert "Nothing to draw: no loss was reported." in text
        assert "nan" not in text.lower().split()


def test_many_rounds_and_devices_still_draw(tmp_path: Path, run: Make, device: Make) -> None:
    losses = [3.0 - 0.01 * number for number in range(100)]
    summary = run(heldout_loss=losses, rounds=100, devices=[device(id=f"d{n}") for n in range(24)])

    text = text_of(read(tmp_path, summary, []))

    assert "d23" in text
    assert "2.010" in text  # the last loss has its label


def test_only_the_end_of_a_long_log_is_shown(tmp_path: Path, run: Make) -> None:
    events = [{"number": f"n{number}"} for number in range(MAX_EVENTS + 5)]

    text = text_of(read(tmp_path, run(), events))

    assert f"Show the last {MAX_EVENTS} of {MAX_EVENTS + 5} events" in text
    assert '"n4"' not in text
    assert '"n5"' in text


def test_a_summary_of_a_wrong_type_names_the_field(tmp_path: Path, run: Make) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.base_loss"):
        write_report(tmp_path, run(base_loss="low"))
