"""What would change an answer and isn't done is refused, whatever server it is known from."""

import json

import pytest

from edge_agent.serving.openai_requests import InvalidRequestError, parse_chat, parse_completion


def _chat(**more: object) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], **more}).encode()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("top_k", 40),
        ("min_p", 0.05),
        ("repetition_penalty", 1.1),
        ("min_tokens", 5),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "x"}}),
    ],
)
def test_what_would_change_an_answer_is_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidRequestError, match=f"{key} is not supported") as caught:
        parse_chat(_chat(**{key: value}), "clinic")
    assert caught.value.param == key
    with pytest.raises(InvalidRequestError, match=f"{key} is not supported"):
        parse_completion(json.dumps({"prompt": "hi", key: value}).encode(), "clinic")


def test_values_that_change_nothing_are_taken() -> None:
    harmless = {
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "min_tokens": 0,
        "tool_choice": "none",
    }
    assert parse_chat(_chat(**harmless), "clinic").turns == [{"role": "user", "content": "hi"}]
    parse_chat(_chat(**dict.fromkeys(harmless)), "clinic")
    parse_chat(_chat(tool_choice="auto", tools=[], user="someone"), "clinic")
