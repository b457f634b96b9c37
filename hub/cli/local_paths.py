"""A job file's own folder: only whoever submits knows where the file lies."""

from pathlib import Path

import msgspec

from hub.yaml_text import find_scalar

#: The keys whose values may be paths.
_PATHS = (
    ["model", "base"],
    ["hub", "public_data"],
    ["hub", "validation"],
    ["pretrain", "config"],
    ["pretrain", "tokenizer_text"],
)


def with_local_paths(text: str, folder: Path) -> str:
    """Return the job file's text with those paths absolute that are there, seen from ``folder``.

    The text keeps its comments. What isn't there stays as it is: an id, or a path that only the
    hub has.

    Raises:
        ConfigError: the text isn't YAML.
    """
    for keys in _PATHS:
        text = _with_local_path(text, keys, folder)
    return text


def _with_local_path(text: str, keys: list[str], folder: Path) -> str:
    found = find_scalar(text, keys, "the job file")
    if found is None or not found.value:
        return text
    path = folder / Path(found.value).expanduser()
    if not path.exists():
        return text
    quoted = msgspec.json.encode(str(path.resolve())).decode()
    return text[: found.start] + quoted + text[found.end :]
