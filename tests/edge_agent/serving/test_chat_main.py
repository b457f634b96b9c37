"""A conversation in the terminal: turns add up, and what fails costs no more than its turn."""

import io
from collections.abc import Iterator, Mapping, Sequence

import pytest
from rich.console import Console

from edge_agent.errors import AgentError
from edge_agent.serving.chat_main import converse

Turns = list[dict[str, str]]


class Model:
    """Answers with the number of turns; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Turns] = []
        self.fails = False

    def __call__(self, turns: Sequence[Mapping[str, str]]) -> Iterator[str]:
        self.asked.append([dict(one) for one in turns])
        yield "answer "
        if self.fails:
            raise AgentError("the server is stopping.")
        yield f"{len(turns)} \x1b[31m[bold]"


def _said(
    monkeypatch: pytest.MonkeyPatch, model: Model, questions: Sequence[str], system: str = ""
) -> str:
    console = Console(file=io.StringIO(), width=200)
    waiting = iter(questions)

    def read(_prompt: str) -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr(console, "input", read)
    converse(model, system, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_turns_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    said = _said(monkeypatch, model, ["one", "two"], "be brief")
    assert [[turn["role"] for turn in asked] for asked in model.asked] == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
    ]
    assert model.asked[1][2]["content"].startswith("answer 2 ")
    # What a model says is text: it can't steer the terminal.
    assert "answer 2 [31m[bold]" in said
    assert "\x1b" not in said


def test_an_empty_line_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    _said(monkeypatch, model, ["one", " ", "two"])
    assert len(model.asked) == 1


def test_a_failed_turn_is_as_if_it_had_not_been(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model()
    model.fails = True
    said = _said(monkeypatch, model, ["one", "two"])
    assert "the server is stopping." in said
    assert [len(asked) for asked in model.asked] == [1, 1]
