"""A job file's own folder: only whoever submits knows where the file lies."""

from pathlib import Path

import msgspec

from hub.yaml_text import find_scalar


def with_local_base(text: str, folder: Path) -> str:
    """Return the job file's text with ``model.base`` absolute, if it is a path below ``folder``.

    The text keeps its comments. A base that isn't there stays as it is: an id, or a folder that
    only the hub has.

    Raises:
        ConfigError: the text isn't YAML.
    """
    found = find_scalar(text, ["model", "base"], "the job file")
    if found is None or not found.value:
        return text
    path = folder / Path(found.value).expanduser()
    if not path.exists():
        return text
    quoted = msgspec.json.encode(str(path.resolve())).decode()
    return text[: found.start] + quoted + text[found.end :]
