"""A base's tokenizer in its GGUF file, read back by the agent and judged by `tokenizers`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from edge_agent.training.tokenizer import load_tokenizer
from hub.export.gguf.tokenizer import tokenizer_keys
from hub.export.gguf.writer import write_gguf
from hub.pretrain.tokenizer import train_tokenizer
from wire.errors import WireError
from wire.gguf_header import read_header

TEXTS = (
    "",
    " ",
    "The Quick brown fox doesn't jump 12345 times, it'LL wait.",
    "  two spaces first,   three, and last  ",
    "tab\tand\r\nreturn\n\n\nand lines",
    "naïve café cafe\u0301 日本語 🙂 \x00",
    "ends<|im_end|>\n<|im_start|>user <tool_call> </s><s>[INST] <start_of_turn>\nx<|eot_id|>",
)
#: Which kind and rules each has, and whether a text begins with a token.
KINDS: dict[str, tuple[str, str, bool]] = {
    "qwen2": ("gpt2", "qwen2", False),
    "llama3": ("gpt2", "llama-bpe", True),
    "mistral": ("llama", "default", True),
    "gemma2": ("llama", "default", True),
    "bytes": ("gpt2", "gpt-2", False),
}
CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "eos_token_id": [7, 8],
}


def config_for(folder: Path, more: int = 3) -> dict[str, Any]:
    """Return the configuration of a model that has a few rows more than there are tokens."""
    size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    return {**CONFIG, "vocab_size": size + more}


def written(folder: Path, path: Path) -> str | None:
    keys, problem = tokenizer_keys(folder, config_for(folder))
    write_gguf(path, "llama", keys, [])
    return problem


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_tokenizer_json(
    kind: str, tokenizer_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tokenizer_folders[kind]
    assert written(folder, tmp_path / "base.gguf") is None
    metadata = read_header(tmp_path / "base.gguf", {"tokenizer.ggml.tokens"}).metadata
    model, rules, adds_bos = KINDS[kind]
    assert metadata["tokenizer.ggml.model"] == model
    assert metadata["tokenizer.ggml.pre"] == rules
    assert metadata["tokenizer.ggml.add_bos_token"] == adds_bos
    assert metadata["tokenizer.ggml.add_eos_token"] is False
    assert metadata["tokenizer.ggml.tokens"][-3].startswith("[PAD")
    inside, outside = load_tokenizer(tmp_path / "base.gguf"), load_tokenizer(folder)
    engine = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        assert inside.ids(text) == engine.encode(text, add_special_tokens=False).ids, repr(text)
    for name in ("eos_id", "eos_token", "adds_bos"):
        assert getattr(inside, name) == getattr(outside, name), name
    if adds_bos:
        assert inside.bos_id == outside.bos_id


def test_a_tokenizer_that_the_hub_trained_goes_along(tmp_path: Path) -> None:
    texts = ["".join(TEXTS), "the quick brown fox " * 20]
    train_tokenizer(texts, 300, tmp_path, positions=64)
    assert written(tmp_path, tmp_path / "base.gguf") is None
    assert read_header(tmp_path / "base.gguf").metadata["tokenizer.ggml.pre"] == "gpt-2"
    engine = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer.json").unlink()  # it would go before the file's own
    for text in TEXTS:
        assert load_tokenizer(tmp_path / "base.gguf").ids(text) == engine.encode(text).ids


def test_the_chat_template_goes_along(tokenizer_folders: dict[str, Path], tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}]
    for kind in ("qwen2", "mistral", "gemma2"):
        written(tokenizer_folders[kind], tmp_path / "base.gguf")
        expected = load_tokenizer(tokenizer_folders[kind]).chat(turns, True)
        assert load_tokenizer(tmp_path / "base.gguf").chat(turns, True) == expected


def test_merges_may_be_written_in_the_older_form(
    tokenizer_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(tokenizer_folders["qwen2"], tmp_path)
    new, _ = tokenizer_keys(folder, config_for(folder))
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    assert tokenizer_keys(folder, config_for(folder)) == (new, None)


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "folder"))


def changed(kind: str, folders: dict[str, Path], tmp_path: Path, change: str) -> Path:
    folder = copied(folders[kind], tmp_path)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    match change:
        case "lower case":
            tokenizer.normalizer = normalizers.Lowercase()
        case "white space":
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(False)]
            )
        case "own expression":
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Split("x", "isolated"), pre_tokenizers.ByteLevel(False)]
            )
        case "space in front":
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        case "a word beside":
            tokenizer.add_special_tokens([AddedToken("<task>")])
            tokenizer.post_processor = TemplateProcessing(
                single="<task> $A", special_tokens=[("<task>", tokenizer.token_to_id("<task>"))]
            )
        case "spaces kept":
            tokenizer.normalizer = None
            tokenizer.pre_tokenizer = None
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("qwen2", "lower case", "it changes text before it cuts it"),
        ("qwen2", "white space", "it has the step WhitespaceSplit"),
        ("qwen2", "own expression", "it has the step Split"),
        ("qwen2", "space in front", "it puts a space in front of text"),
        ("qwen2", "a word beside", "it puts <task> beside each text"),
        ("mistral", "lower case", "it has the step Lowercase"),
        ("gemma2", "spaces kept", "it keeps spaces as they are"),
    ],
)
def test_what_no_gguf_file_can_say_is_left_out_with_the_reason(
    kind: str, change: str, reason: str, tokenizer_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = changed(kind, tokenizer_folders, tmp_path, change)
    keys, problem = tokenizer_keys(folder, config_for(folder))
    assert problem is not None
    assert reason in problem
    assert keys.pop("tokenizer.chat_template")
    assert keys == {"tokenizer.ggml.model": "none", "tokenizer.ggml.eos_token_id": 7}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("a merge less", "its merges are not those that scores of its tokens make."),
        ("merges apart", "its merges are not those that scores of its tokens make."),
        ("a byte less", "it falls back on 255 bytes, not on all 256."),
    ],
)
def test_pieces_that_scores_would_merge_otherwise_are_left_out(
    fault: str, reason: str, tokenizer_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(tokenizer_folders["mistral"], tmp_path)
    document = json.loads((folder / "tokenizer.json").read_text())
    merges, vocabulary = document["model"]["merges"], document["model"]["vocab"]
    match fault:
        case "a merge less":
            del merges[40]
        case "merges apart":  # of a token that can be cut in two ways, one now comes last
            wholes = ["".join(pair) for pair in merges]
            merges.append(merges.pop(next(n for n, w in enumerate(wholes) if wholes.count(w) > 1)))
        case "a byte less":
            vocabulary["<byte 10>"] = vocabulary.pop("<0x0A>")
    (folder / "tokenizer.json").write_text(json.dumps(document))
    keys, problem = tokenizer_keys(folder, {**CONFIG, "vocab_size": 1200})
    assert (keys["tokenizer.ggml.model"], problem) == ("none", reason)


def test_a_token_without_a_row_leaves_the_tokenizer_out(
    tokenizer_folders: dict[str, Path],
) -> None:
    folder = tokenizer_folders["bytes"]
    keys, problem = tokenizer_keys(folder, config_for(folder, more=-1))
    assert (keys["tokenizer.ggml.model"], problem) == (
        "none",
        "token 258 is beyond the model's 258.",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a JSON object"),
        ('{"model": {"type": "BPE", "vocab": [1], "merges": []}}', "not built as transformers"),
        ('{"model": {"type": "BPE", "vocab": {"a": "b"}}}', "not built as transformers"),
    ],
)
def test_a_broken_file_is_an_error(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(WireError, match=words):
        tokenizer_keys(tmp_path, {**CONFIG, "vocab_size": 300})
