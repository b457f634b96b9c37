"""JSON Schemas of the messages, in the dialect that AsyncAPI's Schema Object extends.

AsyncAPI 3 extends JSON Schema draft 07 (https://www.asyncapi.com/docs/reference/specification/
v3.0.0#schemaObject), msgspec writes draft 2020-12; they differ in how tuples are told.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from wire.asyncapi.words import Words

REF = "#/components/schemas/{name}"

#: RFC 4648, section 4: groups of four, padded at the end.
_BASE64 = r"\A(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z"


def schemas_of(kinds: Iterable[type[Any]], words: Words) -> dict[str, Any]:
    """Return the schema of every struct and of all that are parts of one, by name.

    Args:
        kinds: msgspec structs.
        words: what their fields mean; a field without words has no description.
    """
    _, found = msgspec.json.schema_components(kinds, ref_template=REF)
    return {
        name: _with_words(_draft_07(found[name]), words.get(name, {})) for name in sorted(found)
    }


def _draft_07(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_draft_07(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _draft_07(value) for key, value in schema.items()}
    if "prefixItems" in made:
        made["items"] = made.pop("prefixItems")
        made["additionalItems"] = False
    if made.get("contentEncoding") == "base64":
        made["pattern"] = _BASE64
    if isinstance(made.get("description"), str):
        made["description"] = re.sub(r"\s+", " ", made["description"])
    if isinstance(made.get("pattern"), str):  # Python's anchors, where ECMA 262 has others
        made["pattern"] = made["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    return made


def _with_words(schema: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    properties = schema["properties"]
    for field, meaning in words.items():
        if field in properties:
            properties[field] = _described(properties[field], meaning)
    return schema


def _described(schema: dict[str, Any], meaning: str) -> dict[str, Any]:
    """Draft 07 passes over whatever stands beside a ``$ref``, so that one goes into ``allOf``."""
    if "$ref" in schema:
        return {"description": meaning, "allOf": [schema]}
    return {"description": meaning} | schema
