"""Tokenizers of GGUF files: the ids of the tokenizer.json that each was made from."""

import json
import shutil
from pydoc_data.topics import topics

import gguf
import pytest
from tokenizers import Tokenizer as Engine

from edge_agent.errors import ModelError
from edge_agent.training.tokenizer import load_tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
KINDS = {"qwen2": "qwen2", "llama3": "llama-bpe", "mistral": None, "gemma2": None}
TEXTS = (
    "",
    " ",
    "\n\n \n",
    "The Quick brown fox doesn't jump 12345 times, it'LL wait.",
    "  two spaces first,   three, and last  ",
    "tab\tand\r\nreturn\n\n\nand lines",
    "naïve café cafe\u0301 \u00a0 \u200b",
    "日本語と한국어 и русский עברית",
    "🙂👩‍👩‍👧‍👦🇨🇭 \U0001f9ff \x00",
    "ends<|im_end|>\n<|im_start|>user <tool_call> </s><s>[INST] hi <start_of_turn>\nx<|eot_id|>",
    "<0x0A> <unk> ▁▁ x",
    "\n\n".join(topics[name] for name in sorted(topics)[:6]),
)


def write(path, folder, *, family="llama", pre=None, without=(), **values):
    """Write a GGUF file of a folder's tokenizer, in the way of llama.cpp's converter."""
    document = json.loads((folder / "tokenizer.json").read_text())
    added = {token["id"]: token for token in document["added_tokens"]}
    vocabulary = document["model"]["vocab"] | {t["content"]: n for n, t in added.items()}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer = gguf.GGUFWriter(path, family)
    types = [_type(number, token, added) for number, token in enumerate(tokens)]
    # The converter writes user-defined tokens with real spaces.
    spelled = [t.replace("▁", " ") if _is_run(t) and not pre else t for t in tokens]
    keys = {
        "model": lambda: writer.add_tokenizer_model("gpt2" if pre else "llama"),
        "pre": lambda: pre and writer.add_tokenizer_pre(pre),
        "tokens": lambda: writer.add_token_list(spelled),
        "types": lambda: writer.add_token_types(types),
        "scores": lambda: pre or writer.add_token_scores([-float(n) for n in range(len(tokens))]),
        "merges": lambda: (
            pre and writer.add_token_merges([" ".join(m) for m in document["model"]["merges"]])
        ),
        "bos": lambda: values.get("bos") and writer.add_bos_token_id(vocabulary[values["bos"]]),
        "eos": lambda: values.get("eos") and writer.add_eos_token_id(vocabulary[values["eos"]]),
        "add_bos": lambda: "add_bos" in values and writer.add_add_bos_token(values["add_bos"]),
        "space": lambda: "space" in values and writer.add_add_space_prefix(values["space"]),
        "template": lambda: values.get("template") and writer.add_chat_template(values["template"]),
    }
    for name, add in keys.items():
        if name not in without:
            add()
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _type(number, token, added):
    if number in added:
        if token == "<unk>":
            return UNKNOWN
        return CONTROL if added[number]["special"] else USER_DEFINED
    if token.startswith("<0x") and len(token) == 6:
        return BYTE
    return USER_DEFINED if _is_run(token) else NORMAL


def _is_run(token):
    return token in ("\n", "\n\n", "▁▁", "▁▁▁", "▁▁▁▁")


SETTINGS = {
    "qwen2": {
        "family": "qwen2",
        "pre": "qwen2",
        "eos": "<|im_end|>",
        "template": "{{ eos_token }}",
    },
    "llama3": {"pre": "llama-bpe", "bos": "<|begin_of_text|>", "eos": "<|eot_id|>"},
    "mistral": {"bos": "<s>", "eos": "</s>", "template": "{{ bos_token }}[INST]"},
    "gemma2": {"family": "gemma2", "bos": "<bos>", "eos": "<eos>", "space": False},
}


@pytest.fixture(params=SETTINGS)
def kind(request):
    return request.param


def test_ids_are_those_of_the_tokenizer_json(kind, tokenizer_folders, tmp_path):
    folder = tokenizer_folders[kind]
    tokenizer = load_tokenizer(write(tmp_path / "model.gguf", folder, **SETTINGS[kind]))
    engine = Engine.from_file(str(folder / "tokenizer.json"))
    for text in TEXTS:
        assert tokenizer.ids(text) == engine.encode(text, add_special_tokens=False).ids, repr(text)


def test_special_tokens_are_those_of_the_folder(kind, tokenizer_folders, tmp_path):
    folder = tokenizer_folders[kind]
    inside = load_tokenizer(write(tmp_path / "model.gguf", folder, **SETTINGS[kind]))
    outside = load_tokenizer(folder)
    for name in ("bos_id", "eos_id", "eos_token", "adds_bos"):
        assert getattr(inside, name) == getattr(outside, name), name


def test_the_template_of_the_file_is_used(tokenizer_folders, tmp_path):
    turns = [{"role": "user", "content": "a"}]
    for kind, expected in {"qwen2": "<|im_end|>", "mistral": "<s>[INST]", "gemma2": None}.items():
        path = write(tmp_path / f"{kind}.gguf", tokenizer_folders[kind], **SETTINGS[kind])
        assert load_tokenizer(path).chat(turns, True) == expected


def test_ids_are_the_same_after_the_memory_was_given_back(tokenizer_folders, tmp_path):
    path = write(tmp_path / "model.gguf", tokenizer_folders["qwen2"], **SETTINGS["qwen2"])
    tokenizer = load_tokenizer(path)
    before = tokenizer.ids(TEXTS[-1])
    tokenizer.release()
    assert tokenizer.ids(TEXTS[-1]) == before


def test_the_file_may_say_that_texts_do_not_begin_with_a_token(tokenizer_folders, tmp_path):
    folder = tokenizer_folders["mistral"]
    path = write(tmp_path / "model.gguf", folder, **SETTINGS["mistral"], add_bos=False)
    assert not load_tokenizer(path).adds_bos


def test_phi3_takes_the_white_space_behind_its_marks_along(tokenizer_folders, tmp_path):
    # In Phi-3's tokenizer.json <|end|> has rstrip, and <s> has not.
    document = json.loads((tokenizer_folders["mistral"] / "tokenizer.json").read_text())
    for token in document["added_tokens"]:
        token["rstrip"] = token["content"] == "</s>"
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "tokenizer.json").write_text(json.dumps(document))
    path = write(tmp_path / "model.gguf", tmp_path / "source", family="phi3", eos="</s>")
    engine = Engine.from_file(str(tmp_path / "source" / "tokenizer.json"))
    text = "one </s>\n two <s>\n three"
    assert load_tokenizer(path).ids(text) == engine.encode(text, add_special_tokens=False).ids


def test_a_tokenizer_json_beside_the_file_is_taken(tokenizer_folders, tmp_path):
    settings = {**SETTINGS["qwen2"], "pre": "of-tomorrow"}
    path = write(tmp_path / "model.gguf", tokenizer_folders["qwen2"], **settings)
    with pytest.raises(ModelError, match=r"'of-tomorrow', are not known here.*tokenizer\.json"):
        load_tokenizer(path)
    shutil.copy(tokenizer_folders["bytes"] / "tokenizer.json", tmp_path)
    assert load_tokenizer(path).ids("abc") == list(b"abc")
    assert load_tokenizer(tmp_path).ids("abc") == list(b"abc")


def test_what_the_tokenizer_json_does_not_say_the_file_does(tokenizer_folders, tmp_path):
    path = write(tmp_path / "model.gguf", tokenizer_folders["qwen2"], **SETTINGS["qwen2"])
    shutil.copy(tokenizer_folders["qwen2"] / "tokenizer.json", tmp_path)
    tokenizer = load_tokenizer(path)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.chat([{"role": "user", "content": "a"}], True) == "<|im_end|>"


def test_a_folder_with_one_file_is_that_file(tokenizer_folders, tmp_path):
    path = write(tmp_path / "model.gguf", tokenizer_folders["mistral"], **SETTINGS["mistral"])
    assert load_tokenizer(tmp_path).ids("a b") == load_tokenizer(path).ids("a b")


@pytest.mark.parametrize(
    ("kind", "without", "match"),
    [
        ("qwen2", ["model"], "tokenizers of kind None are not known here"),
        ("qwen2", ["tokens"], "has no tokens"),
        ("qwen2", ["merges"], "has no merges"),
        ("mistral", ["scores"], "has neither merges nor scores"),
    ],
)
def test_a_file_that_lacks_a_part_is_a_model_error(
    tokenizer_folders, tmp_path, kind, without, match
):
    folder = tokenizer_folders[kind]
    path = write(tmp_path / "model.gguf", folder, without=without, **SETTINGS[kind])
    with pytest.raises(ModelError, match=f"{match}.*Put the model's tokenizer.json beside"):
        load_tokenizer(path)


def test_a_file_that_is_not_gguf_is_a_model_error(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUX" + bytes(100))
    with pytest.raises(ModelError, match=r"model\.gguf"):
        load_tokenizer(tmp_path / "model.gguf")
