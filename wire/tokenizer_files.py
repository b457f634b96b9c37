"""What a Hugging Face folder says about its tokenizer beside ``tokenizer.json``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wire.errors import WireError
from wire.model_file import read_json_object

_MAX_TEMPLATE_BYTES = 1024 * 1024


def settings_of(folder: Path) -> dict[str, Any]:
    """Return ``tokenizer_config.json``, in older folders with ``special_tokens_map.json``.

    Raises:
        WireError: a file can't be used.
    """
    settings = _read(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        return settings
    return settings | _read(folder / "special_tokens_map.json")


def named_tokens(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that have a name, such as ``eos_token``, by it."""
    extra = settings.get("extra_special_tokens")
    named = {name: content_of(value) for name, value in settings.items() if name.endswith("_token")}
    if isinstance(extra, dict):
        named |= {name: content_of(value) for name, value in extra.items()}
    return {name: content for name, content in named.items() if content is not None}


def content_of(value: Any) -> str | None:
    """Return a token's text, whether it stands alone or in an object."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _read(path: Path) -> dict[str, Any]:
    """Return a file's JSON object, an empty one where there is no file."""
    return read_json_object(path) if path.is_file() else {}


def chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Return the chat template: a file of its own goes before the configuration's.

    Raises:
        WireError: there are several, and none is called ``default``.
    """
    main = folder / "chat_template.jinja"
    files = {"default": main} if main.is_file() else {}
    for file in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        files[file.stem] = file
    if files:
        templates: Any = {name: _text(file) for name, file in files.items()}
    else:
        templates = settings.get("chat_template")
    if isinstance(templates, list):
        templates = {
            str(one.get("name")): one.get("template") for one in templates if isinstance(one, dict)
        }
    if isinstance(templates, dict):
        if "default" not in templates:
            raise WireError(
                f"{folder} has the chat templates {', '.join(sorted(templates))} and none called "
                "default. Save the one that is meant as chat_template.jinja."
            )
        templates = templates["default"]
    return templates if isinstance(templates, str) and templates else None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEMPLATE_BYTES:
            raise WireError(f"{path} is larger than {_MAX_TEMPLATE_BYTES} bytes.")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WireError(f"{path} can't be read ({type(error).__name__}).") from error
