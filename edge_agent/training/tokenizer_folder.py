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
from edge_agent.training.tokenizer_rules import bytes_document
from wire.errors import WireError
from wire.model_file import read_json_object
from wire.split_rules import RULES, Rules
from wire.tokenizer_files import chat_template, content_of, named_tokens, settings_of

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
    settings = _read_settings(folder)
    names = named_tokens(settings)
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
        added=tuple(_added(folder, settings)),
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


def _read_settings(folder: Path) -> dict[str, Any]:
    try:
        return settings_of(folder)
    except WireError as error:
        raise ModelError(str(error)) from error


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    try:
        return chat_template(folder, settings)
    except WireError as error:
        raise ModelError(str(error)) from error


def _added(folder: Path, settings: Mapping[str, Any]) -> Iterator[AddedToken]:
    """Yield the tokens that are found in text before anything else, in the order of their ids."""
    names = list(named_tokens(settings).values())
    extra = (settings.get("extra_special_tokens"), settings.get("additional_special_tokens"))
    names += [
        content
        for listed in extra
        for value in (listed if isinstance(listed, list) else ())
        if (content := content_of(value)) is not None
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
        if (content := content_of(listed[key])) is not None:
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
