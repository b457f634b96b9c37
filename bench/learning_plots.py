"""The learning bench's pictures, as SVG files of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from bench.learning_rows import RULES, Plan
from bench.learning_runs import Outcome, Run
from hub.demo.markup import Html, el, join
from hub.demo.numbers import loss, tick_word, ticks

_WIDTH, _LEFT, _RIGHT = 480.0, 96.0, 464.0
_TOP, _BOTTOM, _ROW = 34.0, 260.0, 34.0
#: Told apart by people who see colours differently, too (Okabe and Ito, 2008).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def write_plots(plan: Plan, outcomes: Mapping[Run, Outcome], folder: Path) -> list[Path]:
    """Write the pictures of what was measured; return their files.

    Args:
        plan: whose runs they are.
        outcomes: those that are there.
        folder: made if it isn't there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for mixed, name in ((False, "equal"), (True, "mixed")):
        losses, curves = {}, {}
        for rule in RULES:
            runs = [plan.federated(rule, seed, mixed=mixed) for seed in plan.seeds]
            found = [outcomes[run] for run in runs if run in outcomes]
            if found:
                losses[rule] = [one.loss for one in found]
                curves[rule] = [
                    fmean(values) for values in zip(*(one.curve for one in found), strict=True)
                ]
        if not losses:
            continue
        for kind, drawn in (
            ("rules", loss_by_rule(losses, f"Held-out loss, {name} ranks, one dot a seed")),
            ("rounds", loss_by_round(curves, f"Held-out loss by round, {name} ranks")),
        ):
            place = folder / f"{kind}-{name}.svg"
            place.write_text(drawn)
            written.append(place)
    return written


def loss_by_rule(losses: Mapping[str, Sequence[float]], title: str) -> Html:
    """Draw one line for each rule: a dot for each seed, a bar at their mean."""
    known = [value for values in losses.values() for value in values]
    marks = ticks(min(known), max(known), 5)
    bottom = _TOP + _ROW * len(losses)

    def x(value: float) -> float:
        return _LEFT + (value - marks[0]) / (marks[-1] - marks[0]) * (_RIGHT - _LEFT)

    parts = [_text(4, 16, title)]
    for mark in marks:
        parts.append(_line(x(mark), _TOP, x(mark), bottom, 0.15))
        word = tick_word(mark, marks[1] - marks[0])
        parts.append(_text(x(mark), bottom + 18, word, "middle"))
    for row, (name, values) in enumerate(losses.items()):
        y = _TOP + (row + 0.5) * _ROW
        mean = x(fmean(values))
        parts.append(_text(_LEFT - 12, y + 4, name, "end"))
        parts.append(_line(mean, y - 9, mean, y + 9, 1.0))
        parts += [
            el("circle", cx=x(value), cy=y, r=4.5, fill=_COLOURS[0], fill_opacity="0.7")
            for value in values
        ]
    told = "; ".join(f"{name} {loss(fmean(values))}" for name, values in losses.items())
    return _svg(bottom + 28, f"{title}: {told}.", parts)


def loss_by_round(curves: Mapping[str, Sequence[float]], title: str) -> Html:
    """Draw one curve for each rule, from round 1 on."""
    known = [value for curve in curves.values() for value in curve]
    marks = ticks(min(known), max(known), 5)
    rounds = max(len(curve) for curve in curves.values())
    left, right = 48.0, _RIGHT - 84

    def y(value: float) -> float:
        return _BOTTOM - (value - marks[0]) / (marks[-1] - marks[0]) * (_BOTTOM - _TOP)

    def x(round_: int) -> float:
        return left + (round_ - 1) / max(1, rounds - 1) * (right - left)

    parts = [_text(4, 16, title)]
    for mark in marks:
        parts.append(_line(left, y(mark), right, y(mark), 0.15))
        word = tick_word(mark, marks[1] - marks[0])
        parts.append(_text(left - 6, y(mark) + 4, word, "end"))
    parts += [
        _text(x(one), _BOTTOM + 18, str(one), "middle")
        for one in range(1, rounds + 1, max(1, rounds // 10))
    ]
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in enumerate(curve, 1))
        parts.append(el("polyline", points=points, fill="none", stroke=colour, stroke_width=2))
        # A legend: names beside the curves' ends would lie on one another.
        at = _TOP + 10 + 18 * number
        parts.append(el("rect", x=right + 12, y=at - 8, width=10, height=10, fill=colour))
        parts.append(_text(right + 27, at + 1, name))
    told = "; ".join(f"{name} {loss(curve[-1])}" for name, curve in curves.items() if curve)
    return _svg(_BOTTOM + 28, f"{title}: {told}.", parts)


def _svg(height: float, told: str, parts: Sequence[Html]) -> Html:
    return el(
        "svg",
        join(*parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH:.0f} {height:.0f}",
        role="img",
        aria_label=told,
        font_size=12,
        font_family="sans-serif",
    )


def _text(x: float, y: float, words: str, anchor: str = "start") -> Html:
    return el("text", words, x=x, y=y, text_anchor=anchor, fill="currentColor")


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float) -> Html:
    return el(
        "line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_opacity=str(opacity)
    )
