"""The tokenizer of a Hugging Face folder.

``tokenizer.json`` is run as it is. transformers 5 puts the rules of some classes, such as
``LlamaTokenizer`` and ``GPT2Tokenizer``, in the place of the file's; where they differ, the file
is what the model was published with.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent.errors import ModelError
from edge_agent.training.tokenizer_contract import AddedToken, Description
from edge_agent.training.tokenizer_json import MAX_BYTES, compact
from edge_agent.training.tokenizer_rules import RULES, Rules, bytes_document
from wire.errors import WireError
from wire.model_file import read_json_object

_MAX_TEMPLATE_BYTES = 1024 * 1024
_FLAGS = ("special", "lstrip", "rstrip", "single_word", "normalized")

#: Classes whose rules are known here, for folders that have vocabulary and merges only.
_CLASSES = {"Qwen2Tokenizer": "qwen2", "GPT2Tokenizer": "gpt-2"}
_FAMILIES = {"qwen2": "qwen2", "qwen3": "qwen2", "gpt2": "gpt-2"}


def describe_folder(folder: Path) -> Description:
    """Return what a folder's files say about its tokenizer.

    Args:
        folder: with ``tokenizer.json``, or with ``vocab.json`` and ``merges.txt`` of a known class.

    Raises:
        ModelError: a file is missing or can't be used.
    """
    settings = _settings(folder)
    added, names = _added(folder, settings), _names(settings)
    config = _read(folder / "config.json") | _read(folder / "generation_config.json")
    adds_bos = None
    if (folder / "tokenizer.json").is_file():
        document = partial(compact, folder / "tokenizer.json")
    elif has_tokenizer(folder):
        rules = _rules(folder, settings, config)
        document = partial(_from_vocabulary, folder, rules)
        adds_bos = settings.get("add_bos_token") is True and "bos_token" in names
    else:
        raise ModelError(f"{folder} has no tokenizer.json. {_convert(folder)}")
    return Description(
        document=document,
        names=names,
        added=tuple(added),
        template=_template(folder, settings),
        splits_special=settings.get("split_special_tokens") is True,
        adds_bos=adds_bos,
        bos_id=_first(config.get("bos_token_id")),
        eos_id=_first(config.get("eos_token_id")),
    )


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder has the files that `describe_folder` reads a vocabulary from."""
    older = (folder / "vocab.json", folder / "merges.txt")
    return (folder / "tokenizer.json").is_file() or all(file.is_file() for file in older)


def _from_vocabulary(folder: Path, rules: Rules) -> bytes:
    """Return the ``tokenizer.json`` of a folder of the older layout."""
    vocabulary, merges = _read(folder / "vocab.json"), folder / "merges.txt"
    try:
        if merges.stat().st_size > MAX_BYTES:
            raise ModelError(f"{merges} is larger than {MAX_BYTES} bytes.")
        lines = merges.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{merges} can't be read ({type(error).__name__}).") from error
    kept = [line for line in lines if line and not line.startswith("#version")]
    return bytes_document(vocabulary, kept, rules)


def _rules(folder: Path, settings: Mapping[str, Any], config: Mapping[str, Any]) -> Rules:
    """Return the rules of a folder that has none itself, by its class or else its family."""
    name = str(settings.get("tokenizer_class") or "").removesuffix("Fast")
    family = str(config.get("model_type"))
    known = _CLASSES.get(name) if name else _FAMILIES.get(family)
    if known is None or settings.get("add_prefix_space"):
        raise ModelError(
            f"{folder} has no tokenizer.json, and the rules of {name or family} are not known "
            f"here. {_convert(folder)}"
        )
    return RULES[known]


def _convert(folder: Path) -> str:
    return (
        "Convert its tokenizer once, where transformers and sentencepiece are installed: "
        f"python -c \"from transformers import AutoTokenizer as T; f = '{folder}'; "
        'T.from_pretrained(f).save_pretrained(f)"'
    )


def _read(path: Path) -> dict[str, Any]:
    """Return a file's JSON object, an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        return read_json_object(path)
    except WireError as error:
        raise ModelError(str(error)) from error


def _settings(folder: Path) -> dict[str, Any]:
    """Return ``tokenizer_config.json``, in older folders with ``special_tokens_map.json``."""
    settings = _read(folder / "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        return settings
    return settings | _read(folder / "special_tokens_map.json")


def _names(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens that have a name, such as ``eos_token``, by it."""
    extra = settings.get("extra_special_tokens")
    named = {name: _content(value) for name, value in settings.items() if name.endswith("_token")}
    if isinstance(extra, dict):
        named |= {name: _content(value) for name, value in extra.items()}
    return {name: content for name, content in named.items() if content is not None}


def _content(value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _added(folder: Path, settings: Mapping[str, Any]) -> Iterator[AddedToken]:
    """Yield the tokens that are found in text before anything else, in the order of their ids."""
    names = list(_names(settings).values())
    extra = (settings.get("extra_special_tokens"), settings.get("additional_special_tokens"))
    names += [
        content
        for listed in extra
        for value in (listed if isinstance(listed, list) else ())
        if (content := _content(value)) is not None
    ]
    listed = settings.get("added_tokens_decoder")
    if isinstance(listed, dict):
        yield from _by_id(listed)
    else:
        older = _read(folder / "added_tokens.json")
        for content in sorted(older, key=lambda content: _number(older[content])):
            special = content in names
            yield AddedToken(content, special=special, normalized=not special)
    yield from map(AddedToken, names)


def _by_id(listed: Mapping[str, Any]) -> Iterator[AddedToken]:
    for key in sorted(listed, key=_number):
        if (content := _content(listed[key])) is not None:
            flags = {name: listed[key].get(name) is True for name in _FLAGS}
            yield AddedToken(content, **flags)


def _number(value: Any) -> int:
    """Return an id, however a file writes it."""
    if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()):
        return int(value)
    raise ModelError(f"{str(value)[:100]!r} is no token's id in tokenizer_config.json.")


def _first(value: Any) -> int | None:
    """Return an id of a configuration, the first where there are several."""
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Return the chat template: a file of its own goes before the configuration's.

    Raises:
        ModelError: there are several, and none is called ``default``.
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
            raise ModelError(
                f"{folder} has the chat templates {', '.join(sorted(templates))} and none called "
                "default. Save the one that is meant as chat_template.jinja."
            )
        templates = templates["default"]
    return templates if isinstance(templates, str) and templates else None


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_TEMPLATE_BYTES:
            raise ModelError(f"{path} is larger than {_MAX_TEMPLATE_BYTES} bytes.")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} can't be read ({type(error).__name__}).") from error
