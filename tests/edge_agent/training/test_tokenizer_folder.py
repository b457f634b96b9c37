"""Tokenizers of folders: the same ids, special tokens and chats as transformers' AutoTokenizer."""

import json
from pydoc_data.topics import topics

import pytest
from tokenizers import Tokenizer as Engine
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from edge_agent.errors import ModelError
from edge_agent.training.long_text import PIECE_CHARACTERS
from edge_agent.training.tokenizer import load_tokenizer

KINDS = ("qwen2", "llama3", "mistral", "gemma2", "vocabulary", "bytes")
TEXTS = (
    "",
    " ",
    "\n\n \n",
    "The Quick brown fox doesn't jump 12345 times, it'LL wait.",
    "  two spaces first, and last  ",
    "tab\tand\r\nreturn\n\n\nand lines   with   runs",
    "naïve café cafe\u0301 ｆｕｌｌ \u00a0 \u200b",  # composed and decomposed, odd spaces
    "日本語と한국어и русский עברית العربية",
    "🙂👩‍👩‍👧‍👦🇨🇭 \U0001f9ff",
    "\x00\x1f\x7f\ufffd\ufffe",
    "ends here<|im_end|>\n<|im_start|>user <tool_call> </s><s> <bos><eot_id><|eot_id|>",
    "<0x0A> [INST] ▁▁ x",
    "def f(x):\n    return {'a': x ** 2}  # 3.14\n",
)


@pytest.fixture(params=KINDS)
def both(request, tokenizer_folders):
    folder = tokenizer_folders[request.param]
    return load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)


def test_ids_are_those_of_transformers(both):
    ours, theirs = both
    for text in TEXTS:
        assert ours.ids(text) == theirs(text, add_special_tokens=False).input_ids, repr(text)


def test_long_text_has_the_ids_of_transformers(both):
    ours, theirs = both
    text = "\n\n".join(topics.values())[: 5 * PIECE_CHARACTERS]
    assert ours.ids(text) == theirs(text, add_special_tokens=False).input_ids


def test_special_tokens_are_those_of_transformers(both):
    ours, theirs = both
    assert ours.bos_id == theirs.bos_token_id
    assert ours.eos_id == theirs.eos_token_id
    assert ours.eos_token == theirs.eos_token
    begun = theirs.bos_token_id is not None and theirs.bos_token_id in theirs("").input_ids
    assert ours.adds_bos is begun


@pytest.mark.parametrize("speaks_next", [True, False])
def test_chats_are_those_of_transformers(both, speaks_next):
    ours, theirs = both
    turns = [
        {"role": "user", "content": " Wie geht's? <b>&amp;</b> <|im_end|>\n"},
        {"role": "assistant", "content": "Gut 🙂"},
    ]
    if theirs.chat_template is None:
        assert ours.chat(turns, speaks_next) is None
        return
    expected = theirs.apply_chat_template(turns, tokenize=False, add_generation_prompt=speaks_next)
    assert ours.chat(turns, speaks_next) == expected


def test_ids_are_the_same_after_the_memory_was_given_back(tokenizer_folders):
    tokenizer = load_tokenizer(tokenizer_folders["qwen2"])
    before = tokenizer.ids("and so on")
    tokenizer.release()
    assert tokenizer.ids("and so on") == before


def test_a_special_token_that_only_the_configuration_names_is_found(tokenizer_folders, tmp_path):
    source = tokenizer_folders["qwen2"]
    (tmp_path / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "the",  # a word of the vocabulary
        "pad_token": "[PAD]",  # none of it
        "image_token": "<image>",
        "added_tokens_decoder": {
            "2": {"content": "and", "lstrip": True, "special": False, "normalized": True}
        },
        "extra_special_tokens": ["<extra>"],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = "then [PAD] <image>  and<extra> at the end"
    assert ours.ids(text) == theirs(text, add_special_tokens=False).input_ids
    assert ours.eos_id == theirs.eos_token_id


def test_the_older_map_of_special_tokens_is_read(tokenizer_folders, tmp_path):
    source = tokenizer_folders["mistral"]
    (tmp_path / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    named = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>"}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(named))
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}')
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_token_id, theirs.eos_token_id) == (1, 2)


def test_the_model_says_what_ends_a_text_where_the_tokenizer_does_not(tokenizer_folders, tmp_path):
    source = tokenizer_folders["mistral"]
    (tmp_path / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    (tmp_path / "config.json").write_text('{"bos_token_id": 1, "eos_token_id": 99999}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 1]}')
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.eos_token) == (1, 2, "</s>")
    assert tokenizer.adds_bos


def test_the_rules_of_the_file_go_before_those_of_a_class(tokenizer_folders, tmp_path):
    # SmolLM's case: its file cuts digits one by one; its class, GPT2Tokenizer, does not.
    engine = Engine.from_file(str(tokenizer_folders["qwen2"] / "tokenizer.json"))
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    engine.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    for text in TEXTS:
        assert load_tokenizer(tmp_path).ids(text) == engine.encode(text).ids


def test_truncation_and_padding_of_the_file_are_off(tokenizer_folders, tmp_path):
    engine = Engine.from_file(str(tokenizer_folders["bytes"] / "tokenizer.json"))
    engine.enable_truncation(4)
    engine.enable_padding(length=8)
    engine.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).ids("abcdef") == list(b"abcdef")


def test_special_tokens_stay_text_where_the_folder_wants_it(tokenizer_folders, tmp_path):
    engine = Engine.from_file(str(tokenizer_folders["bytes"] / "tokenizer.json"))
    engine.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"split_special_tokens": true}')
    assert load_tokenizer(tmp_path).ids("</s>") == list(b"</s>")


def test_templates_in_files_go_before_the_configuration(tokenizer_folders, tmp_path):
    for file in tokenizer_folders["qwen2"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("rag")
    with pytest.raises(ModelError, match=r"the chat templates rag and none called default"):
        load_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    assert load_tokenizer(tmp_path).chat([{"role": "user", "content": "a"}], True) == "a!"


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({}, r"has no tokenizer\.json\. Convert its tokenizer once.*save_pretrained"),
        ({"tokenizer.model": "x"}, r"has no tokenizer\.json\. Convert its tokenizer once"),
        ({"vocab.json": "{}", "merges.txt": ""}, "the rules of None are not known here"),
        (
            {
                "vocab.json": "{}",
                "merges.txt": "",
                "tokenizer_config.json": '{"tokenizer_class": "CLIPTokenizer"}',
            },
            "the rules of CLIPTokenizer are not known here",
        ),
        ({"tokenizer.json": ""}, "can't be read"),
        ({"tokenizer.json": "{}"}, "can't be built"),
        ({"tokenizer.json": "{}", "tokenizer_config.json": "["}, "tokenizer_config.json is not"),
        (
            {
                "tokenizer.json": "{}",
                "tokenizer_config.json": '{"added_tokens_decoder": {"x": {"content": "a"}}}',
            },
            "'x' is no token's id",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_model_error(tmp_path, files, match):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=match):
        load_tokenizer(tmp_path)
