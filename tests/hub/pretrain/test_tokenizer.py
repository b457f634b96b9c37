"""A tokenizer from text: every text comes back, whatever was in that one."""

from pathlib import Path
from pydoc_data.topics import topics

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from hub.pretrain.tokenizer import BOS, EOS, LEAST_TOKENS, PAD, train_tokenizer


def test_it_has_as_many_tokens_as_asked_for_and_shortens_text(tmp_path: Path) -> None:
    tokens = train_tokenizer(topics.values(), 600, tmp_path, 128)
    found = AutoTokenizer.from_pretrained(tmp_path)
    assert len(found) == tokens == 600
    assert (found.pad_token_id, found.bos_token_id, found.eos_token_id) == (PAD, BOS, EOS)
    assert found.model_max_length == 128
    text = topics["assert"]
    # 600 tokens leave less than half as many as there are bytes.
    assert len(found(text)["input_ids"]) < len(text) / 2
    assert found.decode(found(text)["input_ids"]) == text


def test_little_text_leaves_the_bytes(tmp_path: Path) -> None:
    assert train_tokenizer([], 600, tmp_path, 128) == LEAST_TOKENS


@settings(deadline=None)  # the first one trains
@given(st.text(max_size=60))
def test_any_text_comes_back(text: str) -> None:
    built = _bytes()
    assert built.decode(built.encode(text).ids, skip_special_tokens=False) == text


def _bytes(cache: list[Tokenizer] = []) -> Tokenizer:  # noqa: B006 - made once
    if not cache:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            train_tokenizer(["the rain falls on the river"], 280, Path(folder), 64)
            cache.append(Tokenizer.from_file(f"{folder}/tokenizer.json"))
    return cache[0]
