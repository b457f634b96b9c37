"""The tokenizer of a GGUF file, from its metadata.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#tokenizer. Two kinds are known
here: ``gpt2`` (byte-level, with merges) and ``llama`` (SentencePiece, with scores).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from edge_agent.errors import ModelError
from edge_agent.training.tokenizer_contract import Description
from edge_agent.training.tokenizer_rules import bytes_document, pieces_document
from wire.errors import MalformedError
from wire.gguf_header import read_header
from wire.split_rules import RULES, Rules, merges_of

_KEY = "tokenizer.ggml."
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 1, 2, 3, 4, 5
_JOINED = (_NORMAL, _USER_DEFINED, _UNUSED)
_ROLES = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
#: Phi-3's special tokens take the white space behind them along, all but these. No key says so;
#: llama.cpp, too, goes by the model's name.
_PHI3_KEEP_SPACE = {"<unk>", "<s>", "<|endoftext|>"}
_HINT = "Put the model's tokenizer.json beside the GGUF file; it is then taken."


def describe_gguf(path: Path) -> Description:
    """Return what a GGUF file says about its tokenizer.

    Raises:
        ModelError: the file is broken; or, when the document is asked for, its tokenizer is of a
            kind that is not known here.
    """
    metadata = _metadata(path, "tokens")
    tokens = _array(metadata, "tokens") or ()
    ids = {
        role: number
        for key, role in _ROLES.items()
        if isinstance(number := metadata.get(f"{_KEY}{key}_token_id"), int)
        and 0 <= number < len(tokens)
    }
    rules = RULES.get(str(metadata.get(_KEY + "pre")))
    adds_bos = metadata.get(_KEY + "model") == "llama" or (rules is not None and rules.adds_bos)
    template = metadata.get("tokenizer.chat_template")
    return Description(
        # The file is read again then: to keep 150,000 tokens for it would cost 20 MB.
        document=partial(_document, path),
        names={f"{role}_token": tokens[number] for role, number in ids.items()},
        template=template if isinstance(template, str) and template else None,
        adds_bos=metadata.get(_KEY + "add_bos_token", adds_bos) is True,
        bos_id=ids.get("bos"),
        eos_id=ids.get("eos"),
    )


def _metadata(path: Path, *names: str) -> Mapping[str, Any]:
    """Return a file's metadata, with the tokenizer's arrays of these names."""
    try:
        return read_header(path, {_KEY + name for name in names}).metadata
    except MalformedError as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(f"{path} can't be read ({type(error).__name__}).") from error


def _document(path: Path) -> bytes:
    """Return the ``tokenizer.json`` that a GGUF file stands for."""
    metadata = _metadata(path, "tokens", "token_type", "scores", "merges")
    kind, tokens = metadata.get(_KEY + "model"), _array(metadata, "tokens")
    if kind not in ("gpt2", "llama"):
        raise ModelError(f"{path}: tokenizers of kind {kind!r} are not known here. {_HINT}")
    if not tokens:
        raise ModelError(f"{path} has no tokens. {_HINT}")
    types = _array(metadata, "token_type", len(tokens)) or [_NORMAL] * len(tokens)
    merges = _array(metadata, "merges")
    if kind == "gpt2":
        if merges is None:
            raise ModelError(f"{path} has no merges. {_HINT}")
        added = _added(tokens, types)
        return bytes_document(_numbered(tokens), merges, _rules(metadata), added)
    # A run of spaces is no mark that stands for itself, as other user-defined tokens are.
    runs = {n for n, token in enumerate(tokens) if len(token) > 1 and not token.strip(" ")}
    tokens = ["▁" * len(token) if n in runs else token for n, token in enumerate(tokens)]
    types = [_NORMAL if n in runs else of_type for n, of_type in enumerate(types)]
    if merges is None:
        scores = _array(metadata, "scores", len(tokens))
        if scores is None:
            raise ModelError(f"{path} has neither merges nor scores. {_HINT}")
        joined = [n for n, of_type in enumerate(types) if of_type in _JOINED]
        # Runs come first, the shorter before the longer; their scores say nothing.
        joined.sort(key=lambda n: (0, len(tokens[n])) if n in runs else (1, -scores[n]))
        merges = list(merges_of([tokens[n] for n in joined]))
    return pieces_document(
        _numbered(tokens),
        merges,
        tokens[types.index(_UNKNOWN)] if _UNKNOWN in types else None,
        _added(tokens, types, rstrip=metadata.get("general.architecture") == "phi3"),
        space_first=metadata.get(_KEY + "add_space_prefix", True) is True,
    )


def _added(
    tokens: Sequence[str], types: Sequence[int], rstrip: bool = False
) -> list[dict[str, Any]]:
    """Return the tokens that are found in text as they stand, as ``tokenizer.json`` lists them."""
    return [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": rstrip and token not in _PHI3_KEEP_SPACE,
            "normalized": False,
            "special": of_type != _USER_DEFINED,
        }
        for number, (token, of_type) in enumerate(zip(tokens, types, strict=True))
        if of_type in (_UNKNOWN, _CONTROL, _USER_DEFINED)
    ]


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}


def _rules(metadata: Mapping[str, Any]) -> Rules:
    name = metadata.get(_KEY + "pre", "default")
    if name not in RULES:
        raise ModelError(
            f"the GGUF file's rules for cutting text, {str(name)[:100]!r}, are not known here; "
            f"known are {', '.join(RULES)}. {_HINT}"
        )
    return RULES[name]


def _array(metadata: Mapping[str, Any], name: str, length: int | None = None) -> Any:
    """Return an array of the metadata, None where there is none.

    Raises:
        ModelError: it is no array, or not as long as there are tokens.
    """
    values = metadata.get(_KEY + name)
    if values is None:
        return None
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ModelError(f"{_KEY}{name} of the GGUF file is not an array. {_HINT}")
    if length is not None and len(values) != length:
        raise ModelError(
            f"{_KEY}{name} of the GGUF file has {len(values)} values for {length} tokens. {_HINT}"
        )
    return values
