"""The compact form of tokenizer.json: the same tokenizer from half the bytes."""

import json

import pytest
from tokenizers import Tokenizer as Engine

from edge_agent.training.tokenizer_json import compact


@pytest.mark.parametrize("kind", ["qwen2", "mistral", "gemma2"])
def test_the_compact_form_builds_the_same_tokenizer(tokenizer_folders, kind):
    path = tokenizer_folders[kind] / "tokenizer.json"
    short = compact(path)
    assert len(short) < 0.6 * path.stat().st_size
    assert json.loads(short)["model"]["merges"][0].count(" ") == 1
    assert Engine.from_buffer(short).to_str() == Engine.from_file(str(path)).to_str()


@pytest.mark.parametrize("pair", [["a b", "c"], ["a\\u0020b", "c"], ["#version", "c"]])
def test_merges_that_the_older_form_cannot_hold_stay_pairs(tmp_path, pair):
    left, right = (part.replace("\\u0020", " ") for part in pair)
    tokens = ["a", "b", "c", " ", "#version", left, left + right]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [["a", "b"], [left, right]]}
    model["vocab"]["ab"] = 50
    written = json.dumps({"added_tokens": [], "model": model}, indent=2)
    path = tmp_path / "tokenizer.json"
    path.write_text(written.replace(json.dumps(left), f'"{pair[0]}"'))
    assert json.loads(compact(path)) == json.loads(written)


def test_brackets_and_quotes_in_merges_are_kept(tmp_path):
    merges = [['"', "["], ["]", ","], ["\\", "\n"], ['["', '"]']]
    document = {"added_tokens": [{"content": '"merges": [['}], "model": {"merges": merges, "a": 1}}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document, indent=2))
    joined = json.loads(compact(path))
    assert joined["model"].pop("merges") == [f"{left} {right}" for left, right in merges]
    assert joined["model"] == {"a": 1}
    assert joined["added_tokens"] == document["added_tokens"]
