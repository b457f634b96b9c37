"""Judges recorded messages by ``docs/asyncapi.yaml`` alone: nothing of `wire` is used here."""

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonschema import Draft7Validator

FILE = Path(__file__).parents[1] / "docs" / "asyncapi.yaml"


class Seen(NamedTuple):
    """What a recording held: how many messages of each name, and what was wrong with some."""

    names: Counter[str]
    faults: list[str]


class AsyncApi:
    """The document, with what a reader of it needs."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._strict = {"components": _closed(document["components"])}
        self._addresses = [
            (self._pattern(channel), key) for key, channel in document["channels"].items()
        ]
        self._senders = {
            self._key(operation["channel"]): operation
            for operation in document["operations"].values()
            if operation["action"] == "send"
        }

    @classmethod
    @cache
    def of_the_project(cls) -> "AsyncApi":
        return cls(yaml.safe_load(FILE.read_text(encoding="utf-8")))

    def resolve(self, value: Any) -> Any:
        """Return what a value or a reference object stands for."""
        while isinstance(value, dict) and "$ref" in value:
            at: Any = self.document
            for step in value["$ref"].removeprefix("#/").split("/"):
                at = at[step]
            value = at
        return value

    def validator(self, message: str) -> Draft7Validator:
        """Return a validator of a message's payload that takes no field it doesn't know."""
        payload = self.document["components"]["messages"][message]["payload"]
        return Draft7Validator(self._strict | payload)

    def judge(self, recording: Iterable[tuple[str, bytes, int, bool]]) -> Seen:
        """Hold every message against the document: address, QoS, retain flag, payload, replies."""
        names: Counter[str] = Counter()
        faults: list[str] = []
        asked: dict[tuple[str, str], set[str]] = {}
        for topic, payload, qos, retain in recording:
            found = next(
                ((key, m) for p, key in self._addresses if (m := p.fullmatch(topic))), None
            )
            if found is None:
                faults.append(f"{topic}: no channel has this address")
                continue
            key, levels = found
            name, wrong = self._judge_payload(key, payload)
            operation = self._senders[key]
            flags = operation["bindings"]["mqtt"]
            if (qos, retain) != (flags["qos"], flags["retain"]):
                wrong.append(f"QoS {qos}, retain {retain}; the document has {flags}")
            if name is not None and name != "Chunk":
                document = json.loads(payload)
                wrong += self._judge_levels(key, levels.groupdict(), document)
                wrong += _judge_reply(asked, levels.groupdict(), document, name, operation)
            names[name or key] += 1
            faults += [f"{topic}: {one}" for one in wrong]
        return Seen(names, faults)

    def _judge_payload(self, key: str, payload: bytes) -> tuple[str | None, list[str]]:
        """Return the name of the one message of the channel that it is, and what is wrong."""
        reasons: list[str] = []
        fitting = []
        for name, reference in self.document["channels"][key]["messages"].items():
            message = self.resolve(reference)
            if message.get("contentType") == "application/octet-stream":
                wrong = chunk_faults(message, payload)
            else:
                wrong = self._json_faults(name, message, payload)
            reasons += [f"not a {name}: {one}" for one in wrong]
            fitting += [] if wrong else [name]
        if len(fitting) == 1:
            return fitting[0], []
        return None, reasons or [f"it may be any of {fitting}"]

    def _json_faults(self, name: str, message: dict[str, Any], payload: bytes) -> list[str]:
        if len(payload) > message["x-max-bytes"]:
            return [f"{len(payload)} bytes"]
        try:
            document = json.loads(payload)
        except ValueError as error:
            return [str(error)]
        errors = self._validators(name).iter_errors(document)
        return [f"{error.json_path}: {error.message}" for error in errors]

    @cache  # noqa: B019 - one document lives as long as the tests do
    def _validators(self, name: str) -> Draft7Validator:
        return self.validator(name)

    def _judge_levels(self, key: str, levels: dict[str, str], document: Any) -> list[str]:
        """A level of the topic that the payload repeats must be the same there."""
        wrong = []
        for level, reference in self.document["channels"][key]["parameters"].items():
            location = self.resolve(reference).get("location")
            if location is not None:
                inside = document[location.removeprefix("$message.payload#/")]
                if inside != levels[level]:
                    wrong.append(f"{level} is {levels[level]} in the topic, {inside} inside")
        return wrong

    def _pattern(self, channel: dict[str, Any]) -> "re.Pattern[str]":
        parts = re.split(r"\{(\w+)\}", channel["address"])
        spelt = re.escape(parts[0])
        for name, after in zip(parts[1::2], parts[2::2], strict=True):
            parameter = self.resolve(channel["parameters"][name])
            spelt += f"(?P<{name}>{parameter['x-pattern'].strip('^$')})" + re.escape(after)
        return re.compile(spelt)

    @staticmethod
    def _key(reference: dict[str, str]) -> str:
        return reference["$ref"].removeprefix("#/channels/")


def _judge_reply(
    asked: dict[tuple[str, str], set[str]],
    levels: dict[str, str],
    document: dict[str, Any],
    name: str,
    operation: dict[str, Any],
) -> list[str]:
    """Note which replies a request may have; tell if a reply is another, or to nobody."""
    device = levels.get("device", "")
    if "reply" in operation:
        allowed = {one["$ref"].rpartition("/")[2] for one in operation["reply"]["messages"]}
        asked[device, document["id"]] = allowed
    elif "re" in document:
        if (device, document["re"]) not in asked:
            return [f"{name} answers {document['re']}, which {device} never asked"]
        if name not in asked[device, document["re"]]:
            return [f"{name} is no answer to that request"]
    return []


def chunk_faults(message: dict[str, Any], payload: bytes) -> list[str]:
    """Hold a chunk against the header that its message object describes."""
    bounds = message["payload"]
    if not bounds["minLength"] <= len(payload) <= bounds["maxLength"]:
        return [f"{len(payload)} bytes"]
    header = message["x-header"]
    read: dict[str, bytes] = {
        field["name"]: payload[field["at"] : field["at"] + field["bytes"]]
        for field in header["fields"]
    }
    number = {
        field["name"]: int.from_bytes(read[field["name"]], "big")
        for field in header["fields"]
        if field["type"].startswith("uint")
    }
    wrong = []
    for field in header["fields"]:
        if "const" in field and read[field["name"]] != field["const"].encode("ascii"):
            wrong.append(f"its {field['name']} is {read[field['name']]!r}")
    if number["offset"] != number["index"] * header["data-bytes"]:
        wrong.append(f"chunk {number['index']} lies at {number['offset']}")
    if number["crc32"] != zlib.crc32(payload[header["bytes"] :]):
        wrong.append("its CRC-32 differs")
    return wrong


def _closed(schema: Any) -> Any:
    """Return the same schemas, but none takes a property that it doesn't name."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _closed(value) for key, value in schema.items()}
    if made.get("type") == "object" and isinstance(made.get("properties"), dict):
        made.setdefault("additionalProperties", False)
    return made
