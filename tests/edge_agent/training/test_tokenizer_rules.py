"""The rules for cutting text: those that other libraries have under the same names."""

import json

import pytest
from tokenizers import Tokenizer as Engine
from tokenizers import pre_tokenizers
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from edge_agent.training.tokenizer_rules import bytes_document, pieces_document
from wire.split_rules import RULES

ALPHABET = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
TEXT = "It's 1234567 o'clock, isn'T it?\n\n  Oui! a=b+c `d`  ÉÀ é\u0301 HTTPServer日本"


@pytest.mark.parametrize("name", sorted(set(RULES) & set(GGUF_PRE_TOKENIZER_SPLITS)))
def test_expressions_are_those_of_transformers(name):
    assert RULES[name].splits == (GGUF_PRE_TOKENIZER_SPLITS[name],)


def pieces_of(name, text=TEXT):
    engine = Engine.from_buffer(bytes_document(ALPHABET, [], RULES[name]))
    return [piece for piece, _ in engine.pre_tokenizer.pre_tokenize_str(text)]


def test_gpt2_cuts_as_the_library_does():
    own = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert pieces_of("gpt-2") == [piece for piece, _ in own.pre_tokenize_str(TEXT)]


def test_smollm_cuts_digits_one_by_one():
    own = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    assert pieces_of("smollm") == [piece for piece, _ in own.pre_tokenize_str(TEXT)]


def test_files_without_rules_are_cut_at_punctuation_and_after_three_digits():
    assert pieces_of("default", "a+b 12345 c.d") == [
        "a",
        "+",
        "b",
        "Ġ",
        "123",
        "45",
        "Ġc",
        ".",
        "d",
    ]


def test_composed_letters_are_one_only_where_the_family_has_it_so():
    decomposed, composed = "e\u0301", "é".encode()
    for name, rules in RULES.items():
        engine = Engine.from_buffer(bytes_document(ALPHABET, [], rules))
        length = len(composed) if name == "qwen2" else len(decomposed.encode())
        assert len(engine.encode(decomposed).ids) == length, name


def test_a_word_that_is_a_token_is_not_merged_where_the_family_has_it_so():
    vocabulary = ALPHABET | {"ab": 256, "bc": 257, "abc": 258}
    for rules in RULES.values():
        engine = Engine.from_buffer(bytes_document(vocabulary, ["b c", "a b"], rules))
        expected = [258] if rules.whole_words else [ALPHABET["a"], 257]
        assert engine.encode("abc").ids == expected


def test_pieces_fall_back_on_bytes_and_begin_with_a_space():
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    added = [{"id": 0, "content": "<unk>", "special": True, "normalized": False}]
    added = [entry | {"lstrip": False, "rstrip": False, "single_word": False} for entry in added]
    build = Engine.from_buffer
    first = build(pieces_document(vocabulary, ["▁ a"], "<unk>", added))
    assert first.encode("a aé").ids == [259, 259, 1 + 0xC3, 1 + 0xA9]
    bare = build(pieces_document(vocabulary, ["▁ a"], "<unk>", added, space_first=False))
    assert bare.encode("a a").ids == [258, 259]
    assert json.loads(bare.to_str())["model"]["byte_fallback"] is True
