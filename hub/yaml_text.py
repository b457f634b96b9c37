"""YAML text as plain values, by YAML 1.2's core schema.

PyYAML alone follows YAML 1.1, in which ``1e-3`` is text, ``no`` is false, ``010`` is eight and
``12:30`` is 750.
"""

import re
from typing import Any, NamedTuple

import yaml

from hub.errors import ConfigError

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map")}


class _Loader(yaml.SafeLoader):
    """Reads YAML 1.2's core schema, and no aliases: a few of them can stand for gigabytes."""

    yaml_implicit_resolvers = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: yaml.AliasEvent = self.get_event()  # type: ignore[no-untyped-call]
            mark: Any = event.start_mark  # the stubs know two kinds of mark
            problem = "aliases (*name) are not read"
            raise yaml.composer.ComposerError(None, None, problem, mark)
        return super().compose_node(parent, index)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        text = str(node.value)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


for _name, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)
_Loader.add_constructor(_TAG + "int", _Loader.construct_integer)


def load_mapping(text: str, source: str) -> dict[str, Any]:
    """Return the mapping of plain values that a YAML text holds.

    Raises:
        ConfigError: not YAML, not a mapping, or a key that is twice there.
    """
    node = _scan(text, source)
    if not isinstance(node, yaml.MappingNode):
        raise file_error(source, "must be a mapping of keys to values")
    loader = _Loader("")
    try:
        data: dict[str, Any] = loader.construct_document(node)
    except (yaml.YAMLError, ValueError, KeyError) as error:
        raise file_error(source, f"has a value that can't be read: {error}") from error
    finally:
        loader.dispose()
    return data


class Scalar(NamedTuple):
    """A value on one line and where in the text it stands: ``text[start:end]``."""

    value: str
    start: int
    end: int


def find_scalar(text: str, keys: list[str], source: str) -> Scalar | None:
    """Return the value on one line under a path of keys, or None if there is none.

    Raises:
        ConfigError: the text isn't YAML.
    """
    node = _scan(text, source)
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    if not isinstance(node, yaml.ScalarNode) or node.start_mark.line != node.end_mark.line:
        return None
    return Scalar(str(node.value), node.start_mark.index, node.end_mark.index)


def _scan(text: str, source: str) -> yaml.Node | None:
    """Return a YAML text's nodes, which know where in the text they stand.

    Raises:
        ConfigError: not one YAML document of plain values, or a key that is twice there.
    """
    loader = None
    try:
        loader = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise file_error(source, f"is not YAML: {where}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise file_error(source, f"is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise file_error(source, "is nested too deeply") from error
    finally:
        if loader is not None:
            loader.dispose()
    if node is not None:
        _check_nodes(node, "", source)
    return node


def _check_nodes(node: yaml.Node, path: str, source: str) -> None:
    """Refuse what a plain configuration file has no use for; see `_scan`."""
    if node.tag not in _PLAIN_TAGS:
        raise ConfigError(path or source, node.tag, "a plain value without a tag")
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _check_nodes(item, f"{path}[{index}]", source)
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise file_error(source, f"has a key in line {line} that is not text")
            below = join(path, str(key.value))
            if key.value in seen:
                raise ConfigError(
                    below,
                    value.value,
                    "one value",
                    message=f"{below} stands there twice (lines {seen[key.value]} and {line}); "
                    "delete one.",
                )
            seen[key.value] = line
            key.tag = _TAG + "str"
            _check_nodes(value, below, source)


def join(path: str, key: str) -> str:
    """Return the path of a key below another, as in ``lora.rank``."""
    return f"{path}.{key}" if path else key


def file_error(source: object, problem: str) -> ConfigError:
    """Return the error of a file that can't be used as a whole."""
    return ConfigError("", str(source), "a YAML file", message=f"{source} {problem}.")
