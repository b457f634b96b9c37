"""Every message: comes back as it was, is refused when it lies, and changes only on purpose.

`golden_messages.json` holds the field list of each message. When a change is meant, run this file
as a script and add a dated line under CHANGELOG.md's heading "Wire".
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from wire.errors import MalformedError, TooLargeError
from wire.manifest import AdapterManifest
from wire.messages import (
    MAX_MESSAGE_BYTES,
    MAX_RETAINED_BYTES,
    Credit,
    DeviceInfo,
    DeviceState,
    Hello,
    Message,
    Refused,
    Result,
    RungPlan,
    Take,
    catalogue,
    decode,
    encode,
    parse,
)
from wire.topics import Route, Topics

GOLDEN = Path(__file__).with_name("golden_messages.json")
every = pytest.mark.parametrize("kind", catalogue(), ids=lambda kind: kind.__name__)


def strategy(of: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: PLR0911 (one for each type)
    """Values of a field's type."""
    match of:
        case inspect.StrType(max_length=longest):
            return st.text(max_size=min(20, longest or 20))
        case inspect.BytesType(max_length=longest):
            return st.binary(max_size=min(20, longest or 20))
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType(ge=least, le=greatest):
            return st.integers(
                -(2**63) if least is None else least, 2**63 - 1 if greatest is None else greatest
            )
        case inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values):
            return st.sampled_from(values)
        case inspect.UnionType(types):
            return st.one_of([strategy(one) for one in types])
        case inspect.ListType(item_type=item):
            return st.lists(strategy(item), max_size=3)
        case inspect.TupleType(items):
            return st.tuples(*[strategy(item) for item in items])
        case inspect.DictType(key_type=key, value_type=value):
            return st.dictionaries(strategy(key), strategy(value), max_size=3)
        case inspect.StructType(cls, fields):
            return st.builds(cls, **{field.name: strategy(field.type) for field in fields})
    raise AssertionError(f"no strategy for {of}; add one")


def spelt(of: inspect.Type) -> str:  # noqa: PLR0911 (one for each type)
    """A type's name, the same under every Python version."""
    match of:
        case inspect.LiteralType(values):
            return " | ".join(json.dumps(value) for value in values)
        case inspect.UnionType(types):
            return " | ".join(spelt(one) for one in types)
        case inspect.ListType(item_type=item):
            return f"list[{spelt(item)}]"
        case inspect.TupleType(items):
            return f"tuple[{', '.join(spelt(item) for item in items)}]"
        case inspect.DictType(key_type=key, value_type=value):
            return f"dict[{spelt(key)}, {spelt(value)}]"
        case inspect.StructType(cls):
            return cls.__name__
    return type(of).__name__.removesuffix("Type").lower()


def struct_of(kind: type[Any]) -> inspect.StructType:
    """What msgspec knows of a struct."""
    info = inspect.type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{kind} is no struct")
    return info


def inner(of: inspect.Type) -> list[inspect.StructType]:
    """The structs inside a type, itself included."""
    match of:
        case inspect.StructType(_, fields):
            return [of, *(one for field in fields for one in inner(field.type))]
        case inspect.UnionType(types) | inspect.TupleType(types):
            return [one for item in types for one in inner(item)]
        case inspect.ListType(item_type=item):
            return inner(item)
        case inspect.DictType(value_type=value):
            return inner(value)
    return []


def field_lists() -> dict[str, Any]:
    """Every message, the manifest, and every struct inside, with topic, flags and fields."""
    found: dict[str, Any] = {}
    kinds: list[type[Any]] = [*catalogue(), AdapterManifest]
    for kind in kinds:
        for struct in inner(struct_of(kind)):
            fields = {
                field.encode_name: spelt(field.type) + ("" if field.required else ", optional")
                for field in struct.fields
            }
            entry: dict[str, Any] = {"fields": fields}
            cls = struct.cls
            if issubclass(cls, Message):
                entry |= {
                    "route": cls.ROUTE,
                    "name": cls.NAME,
                    "qos": cls.QOS,
                    "retain": cls.RETAIN,
                    "since": cls.SINCE,
                    "tag": struct.tag,
                }
            found[cls.__name__] = entry
    return dict(sorted(found.items()))


def as_text() -> str:
    return json.dumps(field_lists(), indent=1) + "\n"


def test_no_field_list_changed_unnoticed() -> None:
    golden = json.loads(GOLDEN.read_text())
    now = field_lists()
    changed = [name for name in sorted(golden | now) if golden.get(name) != now.get(name)]
    assert not changed, (
        f"the wire changed: {', '.join(changed)}. If that is meant: keep old peers in mind (new "
        "fields need a default), add a dated line under CHANGELOG.md's heading 'Wire', and run "
        "`python tests/wire/test_messages.py` to write the golden file anew."
    )


def test_the_catalogue_finds_what_the_design_names() -> None:
    names = {kind.__name__ for kind in catalogue()}
    assert {"HubState", "RoundAnnounce", "DeviceState", "DeviceInfo", "Offer", "Result"} <= names
    assert "Message" not in names


@every
def test_every_message_says_where_it_goes(kind: type[Message]) -> None:
    topics = Topics("clinics")
    assert callable(getattr(topics, kind.ROUTE))
    assert kind.QOS in (0, 1)
    assert kind.SINCE >= 1
    assert kind.__doc__


@every
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_every_message_comes_back_as_it_was(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(strategy(struct_of(kind)))
    name = message.type if kind.ROUTE == "event" else kind.NAME
    assert parse(Route(kind.ROUTE, name=name), encode(message)) == message
    assert decode(encode(message), kind) == message


@every
def test_every_message_refuses_what_is_none(kind: type[Message]) -> None:
    for payload in (b"", b"{", b"{}", b"[]", b"null", b"\xff\xfe", b'"text"', b"{}" * 2):
        with pytest.raises(MalformedError):
            decode(payload, kind)


@every
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_missing_field_is_named(kind: type[Message], data: st.DataObject) -> None:
    required = [field.name for field in struct_of(kind).fields if field.required]
    document = json.loads(encode(data.draw(strategy(struct_of(kind)))))
    lost = data.draw(st.sampled_from(required))
    del document[lost]
    with pytest.raises(MalformedError, match=f"`{lost}`"):
        decode(json.dumps(document).encode(), kind)


@every
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_field_of_another_type_is_refused_with_its_path(
    kind: type[Message], data: st.DataObject
) -> None:
    info = struct_of(kind)
    document = json.loads(encode(data.draw(strategy(info))))
    field = data.draw(st.sampled_from([field.name for field in info.fields]))
    document[field] = {"of": ["another", {"type": 1}]} if not _is_mapping(info, field) else [1]
    with pytest.raises(MalformedError, match=rf"\$\.{field}|`\$\.{field}"):
        decode(json.dumps(document).encode(), kind)


def _is_mapping(info: inspect.StructType, name: str) -> bool:
    of = next(field.type for field in info.fields if field.name == name)
    types = of.types if isinstance(of, inspect.UnionType) else (of,)
    return any(isinstance(one, inspect.DictType | inspect.StructType) for one in types)


@every
def test_a_newer_peer_may_add_a_field(kind: type[Message]) -> None:
    message = _any_of(kind)
    document = json.loads(encode(message)) | {"added_later": {"a": [1, 2]}}
    assert decode(json.dumps(document).encode(), kind) == message


def _any_of(kind: type[Message]) -> Message:
    plain: dict[type[inspect.Type], Any] = {
        inspect.StrType: "x",
        inspect.BoolType: True,
        inspect.IntType: 1,
        inspect.FloatType: 1.5,
        inspect.ListType: [],
        inspect.DictType: {},
    }

    def value(of: inspect.Type) -> Any:
        match of:
            case inspect.LiteralType(values):
                return values[0]
            case inspect.UnionType(types):
                return value(types[0])
            case inspect.StructType(_, fields):
                return {field.encode_name: value(field.type) for field in fields if field.required}
        return plain[type(of)]

    info = struct_of(kind)
    document = value(info) | ({info.tag_field: info.tag} if info.tag_field else {})
    return decode(json.dumps(document).encode(), kind)


def test_a_message_looks_as_documented() -> None:
    hello = Hello(id="r1", session="s", agent_version="0.1.0", wire_version=1)
    assert json.loads(encode(hello)) == {
        "id": "r1",
        "session": "s",
        "agent_version": "0.1.0",
        "wire_version": 1,
    }
    credit = Credit(re="r1", session="s", sha256="ab", missing=[(0, 3), (7, 1)], window=8)
    assert json.loads(encode(credit)) == {
        "type": "credit",
        "re": "r1",
        "session": "s",
        "sha256": "ab",
        "missing": [[0, 3], [7, 1]],
        "window": 8,
    }


def test_replies_are_told_apart_by_their_type() -> None:
    payload = b'{"type":"refused","re":"r1","session":"s","reason":"late"}'
    assert parse(Route("reply", device="a"), payload) == Refused(
        re="r1", session="s", reason="late"
    )
    with pytest.raises(MalformedError, match="bribe"):
        parse(Route("reply", device="a"), payload.replace(b"refused", b"bribe"))


@pytest.mark.parametrize(
    "route",
    [
        Route("request", device="a", name="steal"),
        Route("command", device="a", name="explode"),
        Route("upload_chunk", device="a"),
        Route("nothing"),
    ],
)
def test_a_message_of_a_newer_version_is_passed_over_unparsed(route: Route) -> None:
    assert parse(route, b"\xff not even JSON") is None


def test_events_of_any_type_are_read() -> None:
    payload = b'{"type":"oom","session":"s","ts":1,"detail":"d"}'
    assert parse(Route("event", device="a", name="oom"), payload) is not None


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b'{"id":' + b"[" * 100_000,
        b'{"extra":' + b"[" * 100_000,
        b'{"extra":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    ],
)
def test_nesting_bombs_are_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(payload, Take)


def test_more_than_the_cap_is_refused_unparsed() -> None:
    with pytest.raises(TooLargeError, match=str(MAX_MESSAGE_BYTES)):
        decode(b"{" * (MAX_MESSAGE_BYTES + 1), Hello)


def test_a_message_at_the_cap_is_read() -> None:
    payload = b'{"re":"r","session":"s","type":"accepted"}'
    padded = payload[:-1] + b" " * (MAX_MESSAGE_BYTES - len(payload)) + b"}"
    assert len(padded) == MAX_MESSAGE_BYTES
    assert parse(Route("reply"), padded) is not None


def test_more_than_the_cap_is_not_sent() -> None:
    with pytest.raises(TooLargeError, match="Refused has"):
        encode(Refused(re="r", session="s", reason="x" * MAX_MESSAGE_BYTES))


def test_a_retained_document_is_held_to_less() -> None:
    def state(reason_bytes: int) -> DeviceState:
        return DeviceState(state="alert", session="s", ts=0.0, reason="x" * reason_bytes)

    room = MAX_RETAINED_BYTES - len(encode(state(0)))
    assert len(encode(state(room))) == 8192
    with pytest.raises(TooLargeError, match="at most 8192"):
        encode(state(room + 1))


def test_numbers_are_not_taken_for_text_nor_text_for_numbers() -> None:
    with pytest.raises(MalformedError, match=r"\$\.wire_version"):
        decode(b'{"id":"1","session":"s","agent_version":"0","wire_version":"1"}', Hello)
    with pytest.raises(MalformedError, match=r"\$\.id"):
        decode(b'{"id":1,"session":"s","agent_version":"0","wire_version":1}', Hello)


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_loss_that_is_no_number_is_refused(number: bytes) -> None:
    payload = (
        b'{"id":"1","session":"s","task":"t","job":"j","round":1,"status":"done",'
        b'"evaluations":[{"variant":"base","loss":' + number + b',"tokens":1}]}'
    )
    with pytest.raises(MalformedError):
        decode(payload, Result)


def test_the_same_message_gives_the_same_bytes_whatever_the_order_of_a_mapping() -> None:
    def info(jobs: list[str]) -> bytes:
        plan = RungPlan(
            role="infer",
            rung="infer",
            rank=0,
            batch=1,
            seq_len=8,
            predicted_peak_bytes=1,
            fits=True,
        )
        return encode(
            DeviceInfo(
                session="s",
                ts=0.0,
                agent_version="0",
                wire_version=1,
                machine="x86_64",
                cores=2.0,
                memory_limit_bytes=1,
                memory_reason="",
                codecs=[],
                plans=dict.fromkeys(jobs, plan),
            )
        )

    assert info(["a", "b"]) == info(["b", "a"])


if __name__ == "__main__":
    GOLDEN.write_text(as_text())
