"""The document says of each topic what the design says, and keeps the rules of AsyncAPI 3."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tests.asyncapi_reader import AsyncApi
from tests.wire.test_messages import every, strategy, struct_of
from wire.errors import MalformedError
from wire.messages import Message, catalogue, encode, parse
from wire.topics import Route
from wire.transfer import encode_chunk

API = AsyncApi.of_the_project()
DOCUMENT = API.document
R, B = "lorikeet/v1/{fleet}", "lorikeet-data/v1/{fleet}"
#: The design's table of topics: address, who sends, QoS, retain flag.
DESIGNED = {
    (f"{R}/hub/state", "hub", 1, True),
    (f"{R}/job/{{job}}/round", "hub", 1, True),
    (f"{R}/job/{{job}}/phase", "hub", 1, True),
    (f"{R}/d/{{device}}/state", "device", 1, True),
    (f"{R}/d/{{device}}/info", "device", 1, True),
    (f"{R}/d/{{device}}/up/telemetry", "device", 0, False),
    (f"{R}/d/{{device}}/up/event/{{type}}", "device", 1, False),
    (f"{R}/d/{{device}}/up/req/hello", "device", 0, False),
    (f"{R}/d/{{device}}/up/req/take", "device", 0, False),
    (f"{R}/d/{{device}}/up/req/evaluated", "device", 0, False),
    (f"{R}/d/{{device}}/up/req/blob-init", "device", 0, False),
    (f"{R}/d/{{device}}/up/req/blob-fin", "device", 0, False),
    (f"{R}/d/{{device}}/up/req/blob-get", "device", 0, False),
    (f"{R}/d/{{device}}/up/req/result", "device", 0, False),
    (f"{R}/d/{{device}}/down/res", "hub", 0, False),
    (f"{R}/d/{{device}}/down/cmd/offer", "hub", 1, False),
    (f"{R}/d/{{device}}/down/cmd/cancel", "hub", 1, False),
    (f"{R}/d/{{device}}/down/cmd/report", "hub", 1, False),
    (f"{B}/job/{{job}}/slice/{{slice}}", "hub", 1, False),
    (f"{B}/d/{{device}}/up", "device", 0, False),
    (f"{B}/d/{{device}}/down", "hub", 1, False),
}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references(one)


def operations(action: str) -> list[dict[str, Any]]:
    return [one for one in DOCUMENT["operations"].values() if one["action"] == action]


# What the design says


def test_every_channel_of_the_design_is_there_with_its_sender_and_flags() -> None:
    found = set()
    for operation in operations("send"):
        address = API.resolve(operation["channel"])["address"]
        [party] = operation["tags"]
        flags = operation["bindings"]["mqtt"]
        found.add((address, party["name"], flags["qos"], flags["retain"]))
    assert found == DESIGNED
    assert {one["address"] for one in DOCUMENT["channels"].values()} == {d[0] for d in DESIGNED}


def test_what_one_party_sends_the_other_receives() -> None:
    sent = {(one["channel"]["$ref"], one["tags"][0]["name"]) for one in operations("send")}
    received = {(one["channel"]["$ref"], one["tags"][0]["name"]) for one in operations("receive")}
    other = {"hub": "device", "device": "hub"}
    assert received == {(channel, other[party]) for channel, party in sent}


def test_the_last_wills_are_those_of_the_design() -> None:
    wills = {
        party: server["bindings"]["mqtt"]["lastWill"]
        for party, server in DOCUMENT["servers"].items()
    }
    assert wills["hub"]["topic"] == f"{R}/hub/state"
    assert json.loads(wills["hub"]["message"])["online"] is False
    assert wills["device"]["topic"] == f"{R}/d/{{device}}/state"
    assert json.loads(wills["device"]["message"])["state"] == "lost"
    assert {(will["qos"], will["retain"]) for will in wills.values()} == {(1, True)}


@every
def test_every_message_says_since_when_and_how_large(kind: type[Message]) -> None:
    told = DOCUMENT["components"]["messages"][kind.__name__]
    # Retained documents are held to 8 KiB, all others to what AWS IoT Core takes, 128 KiB.
    assert told["x-max-bytes"] == (8192 if kind.RETAIN else 131072)
    assert told["x-since"] == 1
    assert told["summary"].endswith(".")


@every
def test_every_field_has_words(kind: type[Message]) -> None:
    names = {one.rpartition("/")[2] for one in references(DOCUMENT["components"]["schemas"])}
    for name in {kind.__name__, *names}:
        properties = DOCUMENT["components"]["schemas"][name]["properties"]
        silent = [field for field, schema in properties.items() if "description" not in schema]
        # What tells replies apart stands in a sentence of topics.md, not in a table.
        assert silent in ([], ["type"]), name


def test_a_chunk_can_be_read_by_the_header_that_the_document_describes() -> None:
    # The design's header: magic, first 8 bytes of the sha256, index, offset, CRC-32. The CRC-32
    # of "123456789" is CBF43926 in every list of check values.
    chunk = encode_chunk("00112233445566778899aabbccddeeff" * 2, 2, b"123456789")
    header = DOCUMENT["components"]["messages"]["Chunk"]["x-header"]
    read = {
        field["name"]: chunk[field["at"] : field["at"] + field["bytes"]].hex()
        for field in header["fields"]
    }
    assert read == {
        "magic": b"LKC1".hex(),
        "key": "0011223344556677",
        "index": "00000002",
        "offset": "0000000000020000",
        "crc32": "cbf43926",
    }
    assert (header["bytes"], header["data-bytes"]) == (28, 65536)
    assert chunk[header["bytes"] :] == b"123456789"


# What AsyncAPI says (https://www.asyncapi.com/docs/reference/specification/v3.0.0)


def test_every_reference_leads_somewhere() -> None:
    found = set(references(DOCUMENT))
    assert len(found) > 60
    for reference in found:
        assert isinstance(API.resolve({"$ref": reference}), dict), reference


def test_an_operation_uses_messages_of_its_own_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        for part in [operation, *([operation["reply"]] if "reply" in operation else [])]:
            channel = part["channel"]["$ref"]
            assert re.fullmatch(r"#/channels/\w+", channel)
            assert part["messages"]
            for message in part["messages"]:
                assert message["$ref"].startswith(f"{channel}/messages/")


def test_every_level_in_braces_is_declared_and_no_other() -> None:
    for channel in DOCUMENT["channels"].values():
        braces = re.findall(r"\{(\w+)\}", channel["address"])
        assert sorted(channel["parameters"]) == sorted(braces)
        assert len(set(braces)) == len(braces)
        assert channel["address"].count("/") <= 7  # AWS IoT Core


def test_mqtt_bindings_have_only_the_fields_of_version_0_2_0() -> None:
    # https://github.com/asyncapi/bindings/blob/master/mqtt/README.md
    for operation in DOCUMENT["operations"].values():
        binding = operation["bindings"]["mqtt"]
        assert set(binding) <= {"qos", "retain", "messageExpiryInterval", "bindingVersion"}
        assert binding["bindingVersion"] == "0.2.0"
    for server in DOCUMENT["servers"].values():
        binding = server["bindings"]["mqtt"]
        assert set(binding) <= {
            "clientId", "cleanSession", "lastWill", "keepAlive", "sessionExpiryInterval",
            "maximumPacketSize", "bindingVersion",
        }  # fmt: skip
        assert set(binding["lastWill"]) == {"topic", "qos", "message", "retain"}


def test_names_of_components_are_ones_that_asyncapi_allows() -> None:
    for group in DOCUMENT["components"].values():
        for name in group:
            assert re.fullmatch(r"[\w\d.\-]+", name)


def test_every_schema_is_one_of_draft_07() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


# What the code says


@every
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_schema_takes_what_the_code_writes(kind: type[Message], data: st.DataObject) -> None:
    payload = encode(data.draw(strategy(struct_of(kind))))
    errors = list(API.validator(kind.__name__).iter_errors(json.loads(payload)))
    assert not errors


@every
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_schema_refuses_what_the_code_refuses(kind: type[Message], data: st.DataObject) -> None:
    document = json.loads(encode(data.draw(strategy(struct_of(kind)))))
    field = data.draw(st.sampled_from(sorted(document)))
    values = [None, True, -1, 2.5, "", "x" * 1001, [], [0] * 65, [[0, 1, 2]], {}, {"a": 1}]
    new = data.draw(st.sampled_from(["gone", *values]))
    if new == "gone":
        del document[field]
    else:
        document[field] = new
    try:
        parsed = parse(Route(kind.ROUTE, name=kind.NAME), json.dumps(document).encode())
        taken = isinstance(parsed, kind)
    except MalformedError:
        taken = False
    assert API.validator(kind.__name__).is_valid(document) == taken


# The reader that judges recordings does find what is wrong

STATE = ("lorikeet/v1/f/d/a/state", b'{"state":"ready","session":"s","ts":1}', 1, True)
EVENT = (
    "lorikeet/v1/f/d/a/up/event/oom",
    b'{"type":"oom","session":"s","ts":1,"detail":"d"}',
    1,
    False,
)
FIN = ("lorikeet/v1/f/d/a/up/req/blob-fin", b'{"id":"1","session":"s","task":"t","sha256":"0"}',
       0, False)  # fmt: skip
WELCOME = b'{"type":"welcome","re":"1","session":"s","epoch":"e","hub_ts":1}'
ACCEPTED = b'{"type":"accepted","re":"1","session":"s"}'
RES = "lorikeet/v1/f/d/a/down/res"
CHUNK = encode_chunk("0" * 64, 0, b"data")


def test_a_recording_without_a_fault_has_none() -> None:
    chunk = ("lorikeet-data/v1/f/d/a/up", CHUNK, 0, False)
    seen = API.judge([STATE, EVENT, FIN, (RES, ACCEPTED, 0, False), chunk])
    assert seen.faults == []
    assert seen.names == {
        "DeviceState": 1, "DeviceEvent": 1, "BlobFin": 1, "Accepted": 1, "Chunk": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("recording", "fault"),
    [
        ([("lorikeet/v1/f/d/a/status", b"{}", 1, True)], "no channel"),
        ([("lorikeet/v1/f/d/-a/state", *STATE[1:])], "no channel"),
        ([(*STATE[:2], 0, True)], "QoS 0"),
        ([(*STATE[:2], 1, False)], "retain False"),
        ([(STATE[0], STATE[1].replace(b"ready", b"asleep"), 1, True)], "'asleep' is not one of"),
        ([(STATE[0], STATE[1].replace(b'"ts"', b'"time"'), 1, True)], "'ts' is a required"),
        ([(STATE[0], STATE[1].replace(b"{", b'{"text":"",'), 1, True)], "'text' was unexpected"),
        ([(STATE[0], STATE[1] + b" " * 8192, 1, True)], "8230 bytes"),
        ([(STATE[0], b"\xff", 1, True)], "can't decode"),
        ([(EVENT[0].replace("oom", "data"), *EVENT[1:])], "data in the topic, oom inside"),
        ([FIN, (RES, WELCOME, 1, False)], "Welcome is no answer"),
        ([(RES, ACCEPTED, 0, False)], "never asked"),
        ([FIN, (RES.replace("/a/", "/b/"), ACCEPTED, 1, False)], "never asked"),
        ([("lorikeet-data/v1/f/d/a/up", CHUNK[:-1] + b"X", 0, False)], "CRC-32"),
        ([("lorikeet-data/v1/f/d/a/up", b"LKC2" + CHUNK[4:], 0, False)], "magic"),
        ([("lorikeet-data/v1/f/d/a/up", CHUNK[:28], 0, False)], "28 bytes"),
        ([("lorikeet-data/v1/f/d/a/up", CHUNK[:23] + b"\1" + CHUNK[24:], 0, False)], "lies at 1"),
    ],
)
def test_a_fault_in_a_recording_is_found(
    recording: list[tuple[str, bytes, int, bool]], fault: str
) -> None:
    assert fault in " ".join(API.judge(recording).faults)


def test_the_catalogue_and_the_document_hold_the_same_messages() -> None:
    names = {kind.__name__ for kind in catalogue()}
    assert set(DOCUMENT["components"]["messages"]) == names | {"Chunk"}
