"""A job file's own folder: only whoever submits knows where the file lies."""

from pathlib import Path

import msgspec

from hub.yaml_text import find_scalar

#: Keys whose values may be paths.
_KEYS = (["model", "base"], ["pretrain", "config"], ["pretrain", "tokenizer_text"])


def with_local_base(text: str, folder: Path) -> str:
    """Return the job file's text with its paths absolute, where they lead below ``folder``.

    The text keeps its comments. What isn't there stays as it is: an id, or a path that only the
    hub has.

    Raises:
        ConfigError: the text isn't YAML.
    """
    for keys in _KEYS:
        found = find_scalar(text, keys, "the job file")
        if found is None or not found.value:
            continue
        path = folder / Path(found.value).expanduser()
        if path.exists():
            quoted = msgspec.json.encode(str(path.resolve())).decode()
            text = text[: found.start] + quoted + text[found.end :]
    return text
