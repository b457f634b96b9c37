"""What OpenAI's interface asks, as far as a local model can do it.

Source: https://platform.openai.com/docs/api-reference (chat, completions). Keys that only steer a
service are passed over; those that would change the answer and aren't done here are refused.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from edge_agent.errors import AgentError
from edge_agent.serving.sampling import Sampling
from edge_agent.serving.service import Wish

#: Names of the one model that a client may use without asking for them.
ALIASES = ("", "default", "lorikeet")
_MAX_STOPS = 16

Temperature = Annotated[float, msgspec.Meta(ge=0, le=5)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
Stop = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Stops = Annotated[list[Stop], msgspec.Meta(max_length=_MAX_STOPS)]

#: What changes an answer and isn't done here, with the values that change nothing.
_ABSENT: Mapping[str, tuple[Any, ...]] = {
    "n": (1, None),
    "best_of": (1, None),
    "echo": (False, None),
    "suffix": ("", None),
    "logprobs": (False, None, 0),
    "top_logprobs": (0, None),
    "logit_bias": ({}, None),
    "frequency_penalty": (0, None),
    "presence_penalty": (0, None),
    "repetition_penalty": (1, None),
    "top_k": (0, -1, None),  # as vLLM and llama.cpp say that none is cut off
    "min_p": (0, None),
    "min_tokens": (0, None),
    "tools": ([], None),
    "tool_choice": ("none", "auto", None),  # without tools, both are the same
    "functions": ([], None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "audio": (None,),
}


class InvalidRequestError(AgentError):
    """A request that can't be answered; `param` is the key at fault, where there is one."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class StreamOptions(msgspec.Struct, frozen=True):
    """How an answer is streamed."""

    include_usage: bool | None = None


class _Common(msgspec.Struct, frozen=True, kw_only=True):
    """Keys of both kinds of request."""

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    seed: int | None = None
    stop: Stop | Stops | None = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the counts."""
        return self.stream_options is not None and self.stream_options.include_usage is True

    def _wish(self, most: int | None) -> Wish:
        stop = self.stop or []
        return Wish(
            most=most,
            stops=(stop,) if isinstance(stop, str) else tuple(stop),
            sampling=Sampling(
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
                # numpy takes none below zero.
                seed=None if self.seed is None else self.seed & (2**64 - 1),
            ),
        )


class _Part(msgspec.Struct, frozen=True):
    """A part of a message's content."""

    type: str
    text: str = ""


class _Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a conversation."""

    role: Annotated[str, msgspec.Meta(pattern=r"\A(system|developer|user|assistant)\Z")]
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            for part in self.content:
                if part.type != "text":
                    raise InvalidRequestError(
                        f"a message has a part of type {part.type[:40]!r}; only text is read.",
                        "messages",
                    )
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatRequest(_Common, frozen=True, kw_only=True):
    """The body of ``/v1/chat/completions``."""

    messages: Annotated[list[_Turn], msgspec.Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None

    @property
    def turns(self) -> list[dict[str, str]]:
        """The conversation; ``developer`` is what templates know as ``system``."""
        return [
            {"role": "system" if one.role == "developer" else one.role, "content": one.text}
            for one in self.messages
        ]

    @property
    def wish(self) -> Wish:
        return self._wish(self.max_completion_tokens or self.max_tokens)


#: What the interface takes where a completion names no number.
_USUAL_TOKENS = 16


class CompletionRequest(_Common, frozen=True, kw_only=True):
    """The body of ``/v1/completions``."""

    prompt: str | list[str | int]

    @property
    def text(self) -> str | list[int]:
        """The prompt, as text or as token ids."""
        if isinstance(self.prompt, str):
            return self.prompt
        if len(self.prompt) == 1 and isinstance(self.prompt[0], str):
            return self.prompt[0]
        ids = [one for one in self.prompt if isinstance(one, int)]
        if len(ids) != len(self.prompt):
            raise InvalidRequestError("several prompts were given; give one.", "prompt")
        return ids

    @property
    def wish(self) -> Wish:
        return self._wish(_USUAL_TOKENS if self.max_tokens is None else self.max_tokens)


Body = TypeVar("Body", bound=_Common)


def parse_chat(body: bytes, served: str) -> ChatRequest:
    """Read a request for a chat completion.

    Args:
        body: of the HTTP request.
        served: the model's name.

    Raises:
        InvalidRequestError: it can't be read, or asks for what isn't done here.
    """
    return _checked(_read(body, ChatRequest), served)


def parse_completion(body: bytes, served: str) -> CompletionRequest:
    """Read a request for a completion; see `parse_chat`."""
    return _checked(_read(body, CompletionRequest), served)


def _read(body: bytes, kind: type[Body]) -> Body:
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError("the body is not a JSON object.") from error
    for key, harmless in _ABSENT.items():
        if key in document and document[key] not in harmless:
            raise InvalidRequestError(f"{key} is not supported by this server.", key)
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        # It names types and bounds, and the place of what is wrong, never a value.
        words, _, place = str(error).partition(" - at ")
        param = place.strip("`").removeprefix("$.").partition("[")[0] or None
        raise InvalidRequestError(f"{place or 'the body'}: {words}.", param) from None


def _checked(request: Body, served: str) -> Body:
    if request.model not in (served, *ALIASES):
        raise InvalidRequestError(
            f"the model {request.model[:100]!r} does not exist here; {served!r} does.",
            "model",
            "model_not_found",
        )
    return request
