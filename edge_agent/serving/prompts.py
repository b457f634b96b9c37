"""Conversations and texts become the tokens that a model answers, as it was trained on them.

With a chat template, as that writes it. Without one as `edge_agent.training.tokens` does: prompt,
newline, response, end of text.
"""

from collections.abc import Mapping, Sequence

from edge_agent.training.tokenizer import Tokenizer

#: Tokens by which models of several families end a turn, where that isn't their end of text.
#: Source: llama-vocab.cpp in https://github.com/ggml-org/llama.cpp, which goes by their names, too.
_ENDS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
)


def chat_ids(tokenizer: Tokenizer, turns: Sequence[Mapping[str, str]]) -> list[int]:
    """Return the tokens of a conversation that the model is to continue.

    Args:
        tokenizer: of the model.
        turns: ``role`` and ``content`` of each.

    Raises:
        ModelError: the chat template fails on it.
    """
    text = tokenizer.chat(turns, add_generation_prompt=True)
    if text is not None:
        return tokenizer.ids(text)
    found = _begin(tokenizer)
    for turn in turns:
        if turn["role"] == "assistant":
            found += tokenizer.ids(turn["content"])
            found += [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        else:
            found += tokenizer.ids(turn["content"] + "\n")
    return found


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a text that the model is to continue."""
    return _begin(tokenizer) + tokenizer.ids(text)


def end_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the tokens behind which a model says no more."""
    found = {tokenizer.eos_id, *(tokenizer.id_of(name) for name in _ENDS)}
    return frozenset(one for one in found if one is not None)


def _begin(tokenizer: Tokenizer) -> list[int]:
    if tokenizer.bos_id is None or not tokenizer.adds_bos:
        return []
    return [tokenizer.bos_id]
