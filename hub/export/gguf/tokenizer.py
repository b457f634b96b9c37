"""A model's tokenizer as GGUF metadata: what `edge_agent.training.tokenizer_gguf` reads back.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer. ``tokenizer.json`` is
the truth. Two kinds can be said in a GGUF file: byte-level BPE (``gpt2``) whose rules for cutting
text have a name there, and SentencePiece's BPE with byte fallback (``llama``). Any other tokenizer
is left out, with the reason: the file then holds a model that takes ids (``none``).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.export.gguf.pieces import scores_of
from wire.errors import MalformedError
from wire.model_file import read_json_object
from wire.shape import shape_of
from wire.split_rules import RULES
from wire.tokenizer_files import chat_template, named_tokens, settings_of

_KEY = "tokenizer.ggml."
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
#: GPT-2's own expression, which the ``ByteLevel`` step applies where it is not told otherwise.
_GPT2 = RULES["gpt-2"].splits[0]


class UnsayableError(MalformedError):
    """A tokenizer does what a GGUF file has no words for."""


def tokenizer_keys(folder: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return the metadata of a folder's tokenizer, and why it is none, if so.

    Args:
        folder: of the base.
        config: its ``config.json``.

    Raises:
        WireError: a file is broken.
    """
    settings = settings_of(folder)
    template = chat_template(folder, settings)
    always: dict[str, Any] = {"tokenizer.chat_template": template} if template else {}
    path = folder / "tokenizer.json"
    try:
        if not path.is_file():
            raise UnsayableError(f"{folder.name} has no tokenizer.json.")
        document = read_json_object(path)
        keys = _vocabulary(document, config)
        keys |= _roles(keys[f"{_KEY}tokens"], settings, config) | _ends(document, settings)
    except UnsayableError as error:
        return always | {f"{_KEY}model": "none", **_roles((), {}, config)}, str(error)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Lists where objects should be, and the like.
        raise MalformedError(
            f"{path} is not built as transformers builds it ({type(error).__name__}: {error})."
        ) from error
    return always | keys, None


def _vocabulary(document: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE":
        kind = model.get("type") if isinstance(model, dict) else None
        raise UnsayableError(f"its model is {str(kind)[:40]}; a GGUF file can hold BPE.")
    tokens, types = _tokens(document, model, shape_of(config, 2).vocab_size)
    merges = [_merge(one) for one in model.get("merges", [])]
    if model.get("byte_fallback"):
        keys = _pieces(document, tokens, types, merges)
        # llama.cpp looks for these in the text as it was written.
        tokens = [
            one.replace("▁", " ") if of == USER_DEFINED else one
            for one, of in zip(tokens, types, strict=True)
        ]
    else:
        keys = {f"{_KEY}model": "gpt2", f"{_KEY}pre": _rules(document, model, merges)}
        keys[f"{_KEY}merges"] = [" ".join(pair) for pair in merges]
    return keys | {f"{_KEY}tokens": tokens, f"{_KEY}token_type": types}


def _merge(entry: Any) -> tuple[str, str]:
    """Return a merge's two tokens; since 2024 they are written as a pair."""
    pair = entry.split(" ") if isinstance(entry, str) else entry
    if not isinstance(pair, list) or len(pair) != 2 or " " in f"{pair[0]}{pair[1]}":
        raise UnsayableError("it merges tokens that have spaces in them.")
    return str(pair[0]), str(pair[1])


def _tokens(
    document: Mapping[str, Any], model: Mapping[str, Any], count: int
) -> tuple[list[str], list[int]]:
    """Return every token and its type; ids that stand for nothing get a name of their own."""
    tokens: list[str | None] = [None] * count
    types = [UNUSED] * count
    added = {one["id"]: one for one in document.get("added_tokens", [])}
    entries = [(number, token) for token, number in model["vocab"].items()]
    for number, token in entries + [(number, one["content"]) for number, one in added.items()]:
        if not 0 <= number < count:
            raise UnsayableError(f"token {number} is beyond the model's {count}.")
        tokens[number] = token
        types[number] = NORMAL
        if number in added:
            types[number] = CONTROL if added[number].get("special") else USER_DEFINED
        elif model.get("byte_fallback") and _is_byte(token):
            types[number] = BYTE
        if model.get("byte_fallback") and token == model.get("unk_token"):
            types[number] = UNKNOWN
    return [f"[PAD{at}]" if one is None else one for at, one in enumerate(tokens)], types


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _rules(
    document: Mapping[str, Any],
    model: Mapping[str, Any],
    merges: Sequence[tuple[str, str]],
) -> str:
    """Return the name of a byte-level tokenizer's rules for cutting text."""
    splits = _splits(document.get("pre_tokenizer"))
    if not merges and not any(len(token) > 1 for token in model["vocab"]):
        return "gpt-2"  # bytes stay bytes, wherever the text is cut
    steps = _steps(document.get("normalizer"), "normalizers")
    if [step.get("type") for step in steps] not in ([], ["NFC"]):
        raise UnsayableError("it changes text before it cuts it, in a way that no rule has.")
    for name, rules in RULES.items():
        whole = bool(model.get("ignore_merges"))
        if (splits, whole, bool(steps)) == (rules.splits, rules.whole_words, rules.nfc):
            return name
    raise UnsayableError(
        f"it cuts text by rules that have no name in GGUF files: {' then '.join(splits)[:300]}"
    )


def _splits(step: Any) -> tuple[str, ...]:
    """Return the expressions that a byte-level tokenizer cuts text by, one after the other."""
    found: list[str] = []
    spelt = False
    for one in _steps(step, "pretokenizers"):
        kind, pattern = one.get("type"), one.get("pattern")
        if kind == "ByteLevel" and not spelt:
            if one.get("add_prefix_space"):
                raise UnsayableError("it puts a space in front of text.")
            found += [_GPT2] if one.get("use_regex", True) else []
            spelt = True
        elif kind == "Digits" and not spelt and one.get("individual_digits"):
            found.append(r"\p{N}")
        elif (
            kind == "Split"
            and not spelt
            and isinstance(pattern, dict)
            and (one.get("behavior"), one.get("invert", False)) == ("Isolated", False)
            and isinstance(pattern.get("Regex"), str)
        ):
            found.append(pattern["Regex"])
        else:
            raise UnsayableError(f"it has the step {str(kind)[:40]}, which no rule has.")
    if not spelt:
        raise UnsayableError("it is neither byte-level nor falls back on bytes.")
    return tuple(found)


def _pieces(
    document: Mapping[str, Any],
    tokens: Sequence[str],
    types: Sequence[int],
    merges: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    """Return what is special about a SentencePiece vocabulary."""
    if types.count(BYTE) != 256:
        raise UnsayableError(f"it falls back on {types.count(BYTE)} bytes, not on all 256.")
    vocabulary = document["model"]["vocab"]
    made = [
        one if of == NORMAL or (of == USER_DEFINED and one in vocabulary) else None
        for one, of in zip(tokens, types, strict=True)
    ]
    scores = scores_of(made, merges)
    if scores is None:
        raise UnsayableError("its merges are not those that scores of its tokens make.")
    return {
        f"{_KEY}model": "llama",
        f"{_KEY}pre": "default",
        f"{_KEY}scores": scores,
        f"{_KEY}add_space_prefix": _space_first(document),
    }


def _space_first(document: Mapping[str, Any]) -> bool:
    """Return whether a text gets a space in front; refuse what else might be done to it."""
    first = replaced = False
    for step in _steps(document.get("normalizer"), "normalizers"):
        match step:
            case {"type": "Prepend", "prepend": "▁"}:
                first = True
            case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
                replaced = True
            case _:
                raise UnsayableError(f"it has the step {str(step.get('type'))[:40]}.")
    for step in _steps(document.get("pre_tokenizer"), "pretokenizers"):
        match step:
            case {"type": "Metaspace", "replacement": "▁"} if step.get("split", True) is False:
                first, replaced = step.get("prepend_scheme", "always") != "never", True
            # Words that begin with a space are what no merge crosses, in vocabularies like these.
            case {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}:
                replaced = True
            case _:
                raise UnsayableError(f"it has the step {str(step.get('type'))[:40]}.")
    if not replaced:
        raise UnsayableError("it keeps spaces as they are.")
    return first


def _steps(step: Any, key: str) -> list[dict[str, Any]]:
    """Return a pipeline's steps, one after the other."""
    if step is None:
        return []
    if not isinstance(step, dict):
        raise MalformedError("tokenizer.json has a step that is no object.")
    if step.get("type") == "Sequence":
        return [inner for one in step.get(key, []) for inner in _steps(one, key)]
    return [step]


def _roles(
    tokens: Sequence[str], settings: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the ids of the tokens that begin, end and fill a text."""
    numbers = {token: number for number, token in enumerate(tokens)}
    names, count = named_tokens(settings), shape_of(config, 2).vocab_size
    found: dict[str, Any] = {}
    for role, key in _ROLES.items():
        number = numbers.get(names.get(f"{role}_token", ""))
        if number is None:
            number = config.get(f"{role}_token_id")
            number = number[0] if isinstance(number, list) and number else number
        if type(number) is int and 0 <= number < count:
            found[f"{_KEY}{key}_token_id"] = number
    return found


def _ends(document: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether a text gets the token that begins it, and the one that ends it."""
    names = named_tokens(settings)
    found = {"bos": False, "eos": False}
    for step in _steps(document.get("post_processor"), "processors"):
        if step.get("type") != "TemplateProcessing":
            continue
        for one in step.get("single", []):
            special = one.get("SpecialToken", {}).get("id")
            role = next((r for r in found if special and special == names.get(f"{r}_token")), None)
            if special and role is None:
                raise UnsayableError(f"it puts {str(special)[:40]} beside each text.")
            if role:
                found[role] = True
    return {f"{_KEY}add_{role}_token": does for role, does in found.items()}
