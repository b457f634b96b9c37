from typing import Annotated

import msgspec

from wire.asyncapi.schemas import schemas_of


class Inner(msgspec.Struct):
    """A part."""

    digest: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{4}\Z")]


class Outer(msgspec.Struct):
    """The whole.

    It has
    parts.
    """

    part: Inner
    pairs: list[tuple[int, str]]
    size: Annotated[int, msgspec.Meta(ge=0, le=9)] = 3


WORDS = {"Outer": {"part": "one of them", "size": "bytes", "gone": "no such field"}}


def test_a_schema_has_bounds_defaults_and_the_words_of_its_fields() -> None:
    size = schemas_of([Outer], WORDS)["Outer"]["properties"]["size"]
    assert size == {
        "description": "bytes", "type": "integer", "minimum": 0, "maximum": 9, "default": 3
    }  # fmt: skip


def test_parts_are_schemas_of_their_own_and_words_do_not_stand_beside_a_reference() -> None:
    schemas = schemas_of([Outer], WORDS)
    assert list(schemas) == ["Inner", "Outer"]
    assert schemas["Outer"]["properties"]["part"] == {
        "description": "one of them",
        "allOf": [{"$ref": "#/components/schemas/Inner"}],
    }
    assert "gone" not in schemas["Outer"]["properties"]


def test_tuples_and_patterns_are_told_as_draft_07_tells_them() -> None:
    # JSON Schema draft 07, section 6.4.1 and 6.4.2 (items, additionalItems); ECMA 262 anchors.
    schemas = schemas_of([Outer], {})
    pairs = schemas["Outer"]["properties"]["pairs"]["items"]
    assert pairs["items"] == [{"type": "integer"}, {"type": "string"}]
    assert pairs["additionalItems"] is False
    assert "prefixItems" not in pairs
    assert schemas["Inner"]["properties"]["digest"]["pattern"] == "^[0-9a-f]{4}$"


def test_a_docstring_becomes_one_paragraph() -> None:
    assert schemas_of([Outer], {})["Outer"]["description"] == "The whole. It has parts."
