"""Tokenizers of the families' kinds, trained on text that every Python has."""

import json
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers.tokenization_utils_base import generate_merges

from hub.demo.byte_tokenizer import save_byte_tokenizer

# The expressions stand in the tokenizer.json of Qwen2 and of Llama 3.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: In the manner of Llama 3, with what its templates make use of.
HEADERS = """{{- bos_token }}
{%- set ns = namespace(first=true) %}
{%- for message in messages %}
    {%- if message['role'] not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('unknown role') }}
    {%- endif %}
    {%- if ns.first %}
        {{- '[' + strftime_now('%Y') + ' ' + ({'a<b': message.role} | tojson) + ']' }}
        {%- set ns.first = false %}
    {%- endif %}
    {%- if tools is not none %}{{- 'tools' }}{%- endif %}
    {%- generation %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endgeneration %}
    {%- if loop.index > 9 %}{% break %}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def save_qwen2(folder: Path) -> None:
    """Write a byte-level tokenizer without a begin-of-text token."""
    tokenizer = byte_level(QWEN2)
    tokenizer.normalizer = normalizers.NFC()
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False)])
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": CHATML,
    }
    save(folder, "qwen2", tokenizer, settings)


def save_llama3(folder: Path) -> None:
    """Write a byte-level tokenizer whose post-processor begins each text."""
    tokenizer = byte_level(LLAMA3)
    names = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    tokenizer.model.ignore_merges = True
    begin_with(tokenizer, "<|begin_of_text|>")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
    }
    save(folder, "llama", tokenizer, settings)
    (folder / "chat_template.jinja").write_text(HEADERS)


def save_mistral(folder: Path) -> None:
    """Write a tokenizer of pieces and bytes, with the normaliser of Llama 2 and Mistral."""
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = pieces([*special, *BYTES], special, normalizers.Sequence(steps))
    begin_with(tokenizer, "<s>")
    named = ("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "chat_template": INST,
        **{
            role: {"__type": "AddedToken", "content": content, "normalized": False}
            for role, content in named
        },
    }
    save(folder, "mistral", tokenizer, settings)


def save_gemma2(folder: Path) -> None:
    """Write a tokenizer of pieces and bytes that sets no space in front of a text."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    runs = ["\n", "\n\n", "▁▁", "▁▁▁", "▁▁▁▁"]
    tokenizer = pieces([*special, *BYTES, *runs], special, normalizers.Replace(" ", "▁"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    begin_with(tokenizer, "<bos>")
    settings = {
        "tokenizer_class": "GemmaTokenizer",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"],
        "chat_template": [
            {"name": "tool_use", "template": "tools"},
            {"name": "default", "template": TURNS},
        ],
    }
    save(folder, "gemma2", tokenizer, settings)


def save_vocabulary(folder: Path) -> None:
    """Write the older layout: vocabulary and merges, and what is added in a file of its own."""
    tokenizer = byte_level(QWEN2)
    tokenizer.model.save(str(folder))
    added = {"<|endoftext|>": 600, "<|im_end|>": 601}
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "added_tokens.json").write_text(json.dumps(added))


def save_bytes(folder: Path) -> None:
    """Write the demo's tokenizer."""
    save_byte_tokenizer(folder, positions=256)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))


def byte_level(expression: str) -> Tokenizer:
    """Return a byte-level tokenizer of 600 tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(topics.values(), trainer)
    return tokenizer


def pieces(tokens: list[str], special: list[str], normalizer: Any) -> Tokenizer:
    """Return a tokenizer of 600 pieces that falls back on single bytes.

    Its merges are every way to cut a token in two, the first tokens first: so transformers converts
    the vocabularies of SentencePiece.

    Args:
        tokens: to begin with, the bytes among them.
        special: those of them that are found before all others.
        normalizer: of the text.
    """
    trained = Tokenizer(models.BPE())
    # No piece of SentencePiece holds the end of a line.
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "removed"), pre_tokenizers.Metaspace()]
    )
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False)
    trained.train_from_iterator(topics.values(), trainer)
    vocabulary = trained.get_vocab()
    tokens = [*tokens, *sorted(vocabulary, key=vocabulary.__getitem__)]
    numbers = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=numbers,
            merges=generate_merges(numbers, skip_tokens=special),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizer
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def begin_with(tokenizer: Tokenizer, token: str) -> None:
    """Let a tokenizer put a token in front of each text."""
    tokenizer.post_processor = TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.token_to_id(token))]
    )


def save(folder: Path, family: str, tokenizer: Tokenizer, settings: dict[str, Any]) -> None:
    """Write the three files that transformers reads."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "config.json").write_text(json.dumps({"model_type": family}))


#: By the kind of tokenizer.
MAKERS: dict[str, Callable[[Path], None]] = {
    "qwen2": save_qwen2,
    "llama3": save_llama3,
    "mistral": save_mistral,
    "gemma2": save_gemma2,
    "vocabulary": save_vocabulary,
    "bytes": save_bytes,
}


def save_all(made: Callable[[str], Path]) -> dict[str, Path]:
    """Write one of each kind.

    Args:
        made: makes a folder of that name.
    """
    folders = {kind: made(kind) for kind in MAKERS}
    for kind, make in MAKERS.items():
        make(folders[kind])
    return folders
