"""A model's chat template, rendered as Hugging Face's tools render it.

Templates come with a model, so they run in Jinja's sandbox: they see the turns and the names of
the special tokens, and change nothing. What is offered to them is fixed by those that exist:
https://huggingface.co/docs/transformers/chat_templating_writing
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from edge_agent.errors import ModelError
from edge_agent.training.errors import is_out_of_memory

#: A conversation: ``role`` and ``content`` of each turn.
Turns = Sequence[Mapping[str, str]]


def compile_template(source: str, names: Mapping[str, str]) -> Callable[[Turns, bool], str]:
    """Return a function of a conversation, and of whether the model is to speak next, to text.

    Args:
        source: in Jinja's language.
        names: the special tokens by role, such as ``bos_token``.

    Raises:
        ModelError: the template is not valid, or, later, fails on a conversation. The message
            holds nothing of the conversation.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _PublicNamespace
    try:
        template = environment.from_string(source)
    except (TemplateError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise ModelError(
            f"the model's chat template is not valid ({type(error).__name__} in line {line}). "
            "Mend it, or remove it: then prompt, newline and response are used."
        ) from error

    def render(turns: Turns, add_generation_prompt: bool) -> str:
        try:
            return template.render(
                messages=[dict(turn) for turn in turns],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **names,
            )
        except Exception as error:
            # A template runs into whatever Python raises. The text must not leave with the error.
            if is_out_of_memory(error):
                raise
            roles = ", ".join(turn["role"] for turn in turns)
            raise ModelError(
                f"the model's chat template fails on turns of {roles} ({type(error).__name__}). "
                "Mend it, or remove it: then prompt, newline and response are used."
            ) from None

    return render


class _Generation(Extension):
    """Lets ``{% generation %}``, the mark of what the model says, through with its own scope."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Dict:
    """``dict`` for templates: makes dictionaries, and gives no way to the class behind them."""

    def __call__(self, *pairs: Any, **named: Any) -> dict[Any, Any]:
        return dict(*pairs, **named)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _PublicNamespace(Namespace):
    """Jinja's ``namespace`` without names that begin with an underscore."""

    def __init__(*parts: Any, **named: Any) -> None:
        self, *pairs = parts  # so that a template may have a name "self"
        given = dict(*pairs, **named)
        for name in given:
            _check_public(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        super().__setitem__(name, value)


def _check_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a template may not set {name!r}.")


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON as it is: Jinja's own filter would escape it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
