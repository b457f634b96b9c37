"""Topics are spelt as docs and brokers' ACLs expect them, and read back to where they came from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import MalformedError
from wire.topics import (
    SENDERS,
    Route,
    Topics,
    check_name,
    fleet_of,
    template,
    watch_filters,
)

TOPICS = Topics("clinics")

#: The design's table of topics, spelt out.
TABLE = [
    (TOPICS.hub_state(), "lorikeet/v1/clinics/hub/state", Route("hub_state")),
    (
        TOPICS.job_phase("notes"),
        "lorikeet/v1/clinics/job/notes/phase",
        Route("job_phase", job="notes"),
    ),
    (
        TOPICS.job_round("notes"),
        "lorikeet/v1/clinics/job/notes/round",
        Route("job_round", job="notes"),
    ),
    (
        TOPICS.device_state("pi-7"),
        "lorikeet/v1/clinics/d/pi-7/state",
        Route("device_state", device="pi-7"),
    ),
    (
        TOPICS.device_info("pi-7"),
        "lorikeet/v1/clinics/d/pi-7/info",
        Route("device_info", device="pi-7"),
    ),
    (
        TOPICS.telemetry("pi-7"),
        "lorikeet/v1/clinics/d/pi-7/up/telemetry",
        Route("telemetry", device="pi-7"),
    ),
    (
        TOPICS.event("pi-7", "oom"),
        "lorikeet/v1/clinics/d/pi-7/up/event/oom",
        Route("event", device="pi-7", name="oom"),
    ),
    (
        TOPICS.request("pi-7", "blob-init"),
        "lorikeet/v1/clinics/d/pi-7/up/req/blob-init",
        Route("request", device="pi-7", name="blob-init"),
    ),
    (
        TOPICS.reply("pi-7"),
        "lorikeet/v1/clinics/d/pi-7/down/res",
        Route("reply", device="pi-7"),
    ),
    (
        TOPICS.command("pi-7", "offer"),
        "lorikeet/v1/clinics/d/pi-7/down/cmd/offer",
        Route("command", device="pi-7", name="offer"),
    ),
    (
        TOPICS.slice_chunk("notes", "lora-0"),
        "lorikeet-data/v1/clinics/job/notes/slice/lora-0",
        Route("slice_chunk", job="notes", name="lora-0"),
    ),
    (
        TOPICS.upload_chunk("pi-7"),
        "lorikeet-data/v1/clinics/d/pi-7/up",
        Route("upload_chunk", device="pi-7"),
    ),
    (
        TOPICS.repair_chunk("pi-7"),
        "lorikeet-data/v1/clinics/d/pi-7/down",
        Route("repair_chunk", device="pi-7"),
    ),
]


@pytest.mark.parametrize(("spelt", "expected", "route"), TABLE)
def test_topics_are_spelt_as_designed_and_read_back(
    spelt: str, expected: str, route: Route
) -> None:
    assert spelt == expected
    assert TOPICS.parse(expected) == route


@pytest.mark.parametrize("spelt", [row[0] for row in TABLE])
def test_no_topic_has_more_than_seven_slashes(spelt: str) -> None:
    assert spelt.count("/") <= 7


def test_without_a_name_a_topic_is_a_filter_for_all() -> None:
    assert TOPICS.request() == "lorikeet/v1/clinics/d/+/up/req/+"
    assert TOPICS.slice_chunk() == "lorikeet-data/v1/clinics/job/+/slice/+"


def test_a_template_has_its_variable_levels_in_braces() -> None:
    assert template("event") == "lorikeet/v1/{fleet}/d/{device}/up/event/{type}"
    assert template("request", "hello") == "lorikeet/v1/{fleet}/d/{device}/up/req/hello"
    assert template("slice_chunk") == "lorikeet-data/v1/{fleet}/job/{job}/slice/{slice}"
    assert template("hub_state") == "lorikeet/v1/{fleet}/hub/state"


@pytest.mark.parametrize("kind", SENDERS)
def test_a_template_with_names_filled_in_is_read_back_as_its_kind(kind: str) -> None:
    spelt = template(kind).replace("{fleet}", "clinics").replace("{", "").replace("}", "")
    route = TOPICS.parse(spelt)
    assert route is not None
    assert route.kind == kind


def test_watching_takes_in_all_fleets_or_one_device_and_chunks_only_when_asked() -> None:
    assert watch_filters() == ["lorikeet/v1/+/#"]
    assert watch_filters("clinics", chunks=True) == [
        "lorikeet/v1/clinics/#",
        "lorikeet-data/v1/clinics/#",
    ]
    assert watch_filters("clinics", "pi-7") == ["lorikeet/v1/clinics/d/pi-7/#"]


@pytest.mark.parametrize(
    ("topic", "fleet"),
    [
        ("lorikeet/v1/clinics/hub/state", "clinics"),
        ("lorikeet-data/v1/clinics/d/a/up", "clinics"),
        ("lorikeet/v1/clinics", None),
        ("lorikeet/v2/clinics/hub/state", None),
        ("parrot/v1/clinics/hub/state", None),
        ("lorikeet/v1/-x/hub/state", None),
        ("lorikeet/v1//hub/state", None),
        ("", None),
    ],
)
def test_the_fleet_of_a_topic_is_told_if_it_is_one_of_ours(topic: str, fleet: str | None) -> None:
    assert fleet_of(topic) == fleet


def test_chunks_stay_out_of_what_a_person_watches() -> None:
    # mosquitto_sub -t 'lorikeet/#' matches what begins with lorikeet/.
    assert not TOPICS.upload_chunk("pi-7").startswith("lorikeet/")
    assert not TOPICS.slice_chunk("notes", "s").startswith("lorikeet/")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "lorikeet",
        "lorikeet/v1/clinics",
        "lorikeet/v1/clinics/",
        "lorikeet/v1/clinics/hub",
        "lorikeet/v1/clinics/hub/state/more",
        "lorikeet/v1/schools/hub/state",
        "lorikeet/v1/clinics2/hub/state",
        "lorikeet/v2/clinics/hub/state",
        "parrot/v1/clinics/hub/state",
        "/lorikeet/v1/clinics/hub/state",
        "lorikeet-data/v1/clinics/hub/state",
        "lorikeet/v1/clinics/d/pi-7/up",
        "lorikeet/v1/clinics/d//state",
        "lorikeet/v1/clinics/d/+/state",
        "lorikeet/v1/clinics/d/#",
        "lorikeet/v1/clinics/d/../state",
        "lorikeet/v1/clinics/d/pi-7/up/req/a b",
        "lorikeet/v1/clinics/d/pi-7\n/state",
        "lorikeet/v1/clinics/d/" + "x" * 64 + "/state",
        "$SYS/broker/uptime",
    ],
)
def test_topics_of_others_are_nobodys(topic: str) -> None:
    assert TOPICS.parse(topic) is None


@given(st.text(max_size=80))
def test_noise_is_no_topic(tail: str) -> None:
    route = TOPICS.parse("lorikeet/v1/clinics/" + tail)
    if route is not None and route.device is not None:
        assert check_name(route.device, "device") == route.device


def test_another_root_is_another_world() -> None:
    other = Topics("clinics", root="test-7")
    assert other.hub_state() == "test-7/v1/clinics/hub/state"
    assert other.upload_chunk("a") == "test-7-data/v1/clinics/d/a/up"
    assert other.parse(TOPICS.hub_state()) is None


@pytest.mark.parametrize("name", ["a", "A9", "pi-7.local_2", "x" * 63, "0"])
def test_names_that_may_stand_in_a_topic(name: str) -> None:
    assert check_name(name, "device") == name


@pytest.mark.parametrize(
    "name", ["", "a/b", "+", "#", "a+", "-a", ".", "..", "_a", "a b", "ä", "a\n", "a\0", "x" * 64]
)
def test_names_that_may_not(name: str) -> None:
    with pytest.raises(MalformedError, match="device is"):
        check_name(name, "device")


@pytest.mark.parametrize("name", ["a/b", "+", ""])
def test_a_fleet_or_root_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(MalformedError, match="fleet"):
        Topics(name)
    with pytest.raises(MalformedError, match="root"):
        Topics("clinics", root=name)
