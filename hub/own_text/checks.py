"""What a job's part ``hub`` needs of this machine: looked at when the job is submitted."""

from importlib.util import find_spec
from pathlib import Path

from hub.errors import ConfigError
from hub.job_parts import HubPart

#: As the agent reads them (`edge_agent.training.data`).
SUFFIXES = (".jsonl", ".txt")
_STREAMED = ("torch", "tokenizers")
_RESIDENT = (*_STREAMED, "transformers", "peft")


def check_own_text(part: HubPart) -> dict[str, str]:
    """Return where the hub's texts are, absolute, by their key.

    Raises:
        ConfigError: a path isn't there or holds no text, or what training needs isn't installed.
            That is looked up, not imported.
    """
    found = {
        key: str(_text(f"hub.{key}", path))
        for key, path in (("public_data", part.public_data), ("validation", part.validation))
        if path is not None
    }
    if found:
        _check_libraries(f"hub.{next(iter(found))}", part)
    return found


def _text(key: str, value: str) -> Path:
    path = Path(value).expanduser().resolve()
    allowed = "a .jsonl or .txt file on the hub's machine, or a folder with some"
    if not path.exists():
        raise ConfigError(
            key, value, allowed, message=f"{key} is {value}; there is no such path on the hub."
        )
    if path.is_dir():
        usable = any(file.suffix in SUFFIXES and file.is_file() for file in path.rglob("*"))
    else:
        usable = path.suffix in SUFFIXES
    if not usable:
        raise ConfigError(key, value, allowed)
    return path


def _check_libraries(key: str, part: HubPart) -> None:
    needed = _STREAMED if part.rung == "streamed" else _RESIDENT
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise ConfigError(
            key,
            "set",
            "null",
            message=f"{key} is set, and the hub's machine lacks {', '.join(missing)}. Install "
            "lorikeet[train] there, or leave the part hub out.",
        )
