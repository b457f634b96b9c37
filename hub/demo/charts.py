"""The report's pictures: drawn by hand as SVG, coloured by the page's style sheet.

All have one width, 400 units, and letters of 12 or 13 units: a phone shows them at 85 %, a
desk in two columns at 110 %.
"""

from collections.abc import Callable, Sequence

from hub.demo.markup import Html, el, join
from hub.demo.numbers import loss, memory, percent, tick_word, ticks, transfer
from hub.demo.summary import DeviceSummary, Summary, fall

WIDTH = 400.0
_LEFT, _RIGHT = 2.0, 398.0
_ROW = 50.0
_MIB = 1024.0**2


def loss_by_round(summary: Summary) -> Html:
    """Draw the held-out loss after each round, from the base on, with the base as a line."""
    series = [value for value in (summary.base_loss, *summary.heldout_loss) if value is not None]
    if not series:
        return _nothing("no loss was reported")
    first = 0 if summary.base_loss is not None else 1
    marks = ticks(min(series), max(series), 6)
    left, right, top, bottom = 42.0, 352.0, 28.0, 300.0
    y = _scale(marks[0], marks[-1], bottom, top)
    x = _scale(0, max(summary.rounds, len(summary.heldout_loss), 1), left + 12, right)
    parts = [_text(0, 12, "nats per token", "axis")]
    for mark in marks:
        parts.append(_line(left, y(mark), _RIGHT, y(mark), "grid"))
        parts.append(
            _text(left - 6, y(mark) + 4, tick_word(mark, marks[1] - marks[0]), "tick", "end")
        )
    points = [(x(number), y(value)) for number, value in enumerate(series, first)]
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
    area = f"{path}L{points[-1][0]:.1f} {bottom}L{points[0][0]:.1f} {bottom}Z"
    parts.append(el("path", d=area, class_="area"))
    if summary.base_loss is not None:
        at = y(summary.base_loss)
        parts.append(_line(left, at, _RIGHT, at, "reference"))
        parts.append(_text(_RIGHT, at - 7, f"base {loss(summary.base_loss)}", "note", "end"))
    parts.append(el("path", d=path, class_="curve"))
    parts += [_circle(px, py, "dot") for px, py in points]
    parts += _point_labels(points, series, first)
    parts += [
        _text(x(number), bottom + 18, "base" if number == 0 else str(number), "tick", "middle")
        for number in _round_marks(first, max(summary.rounds, len(summary.heldout_loss)))
    ]
    parts.append(_text((left + right) / 2 + 6, bottom + 38, "round", "axis", "middle"))
    told = ", ".join(
        f"{'base' if number == 0 else f'round {number}'} {loss(value)}"
        for number, value in enumerate(series, first)
    )
    return _svg(bottom + 44, f"Held-out loss in nats per token: {told}.", parts)


def _point_labels(
    points: Sequence[tuple[float, float]], series: Sequence[float], first: int
) -> list[Html]:
    """Label each point while they are few, the last one always; the base has its own label."""
    labels = []
    for place, ((px, py), value) in enumerate(zip(points, series, strict=True)):
        is_last = place == len(series) - 1
        if place + first > 0 and (is_last or len(series) <= 8):
            labels.append(
                _text(px + 5, py - 8, loss(value), "value strong" if is_last else "value")
            )
    return labels


def _round_marks(first: int, last: int) -> list[int]:
    step = max(1, -(-last // 10))
    return [number for number in range(first, last + 1) if number % step == 0]


def loss_by_device(devices: Sequence[DeviceSummary]) -> Html:
    """Draw each device's loss with the base alone and with the final adapter, joined by a line."""
    known = [v for d in devices for v in (d.loss_before, d.loss_after) if v is not None]
    if not known:
        return _nothing("no device reported a loss")
    marks = ticks(min(known), max(known), 5)
    x = _scale(marks[0], marks[-1], _LEFT + 8, _RIGHT - 8)

    def row(device: DeviceSummary, top: float) -> list[Html]:
        before, after, at = device.loss_before, device.loss_after, top + 31
        parts = [_line(_LEFT, at, _RIGHT, at, "grid")]
        if before is not None and after is not None:
            parts.append(_line(x(before), at, x(after), at, f"link {_role(device)}"))
        if before is not None:
            parts.append(_circle(x(before), at, f"before {_role(device)}"))
        if after is not None:
            parts.append(_circle(x(after), at, f"after {_role(device)}"))
        return parts

    def words(device: DeviceSummary) -> str:
        change = percent(fall(device.loss_before, device.loss_after))
        return f"{loss(device.loss_before)} → {loss(device.loss_after)}  ({change})"

    parts, bottom = _rows(devices, row, words)
    parts += _x_axis(marks, x, bottom, "loss on the device's own held-out text, nats per token")
    told = "; ".join(f"{device.id} {words(device)}" for device in devices)
    return _svg(bottom + 44, f"Loss before and after, by device: {told}.", parts)


def bytes_by_device(devices: Sequence[DeviceSummary]) -> Html:
    """Draw what each device sent and received, one bar each, from zero."""
    most = max((max(d.bytes_up, d.bytes_down) for d in devices), default=0)
    unit, name = (1e6, "MB") if most >= 1e6 else (1e3, "kB")
    marks = ticks(0.0, max(most / unit, 1.0), 5)
    x = _scale(marks[0], marks[-1], _LEFT, _RIGHT - 8)

    def row(device: DeviceSummary, top: float) -> list[Html]:
        return [
            _bar(_LEFT, top + 22, x(device.bytes_up / unit), 8, "up"),
            _bar(_LEFT, top + 32, x(device.bytes_down / unit), 8, "down"),
        ]

    def words(device: DeviceSummary) -> str:
        return f"↑ {transfer(device.bytes_up)}   ↓ {transfer(device.bytes_down)}"

    parts, bottom = _rows(devices, row, words)
    parts += _x_axis(marks, x, bottom, f"{name} over the whole run")
    told = "; ".join(
        f"{d.id} sent {transfer(d.bytes_up)} and received {transfer(d.bytes_down)}" for d in devices
    )
    return _svg(bottom + 44, f"Bytes by device: {told}.", parts)


def memory_by_device(devices: Sequence[DeviceSummary]) -> Html:
    """Draw each device's measured peak as a bar, its limit and the planner's word as marks."""
    most = max((max(d.memory_limit_bytes, d.peak_bytes or 0) for d in devices), default=0) / _MIB
    marks = ticks(0.0, max(most, 1.0), 5)
    x = _scale(marks[0], marks[-1], _LEFT, _RIGHT - 8)

    def row(device: DeviceSummary, top: float) -> list[Html]:
        limit, peak = device.memory_limit_bytes, device.peak_bytes
        over = " over" if peak is not None and peak > limit else ""
        parts = [_bar(_LEFT, top + 24, x(limit / _MIB), 13, "room")]
        if peak is not None:
            parts.append(_bar(_LEFT, top + 24, x(peak / _MIB), 13, f"{_role(device)}{over}"))
        if device.predicted_peak_bytes is not None:
            at = x(device.predicted_peak_bytes / _MIB)
            parts.append(_line(at, top + 24, at, top + 37, "halo"))
            parts.append(_line(at, top + 22, at, top + 39, "predicted"))
        at = x(limit / _MIB)
        parts.append(_line(at, top + 20, at, top + 41, "limit"))
        return parts

    def words(device: DeviceSummary) -> str:
        if device.peak_bytes is None:
            return f"not measured; limit {memory(device.memory_limit_bytes)}"
        share = 100 * device.peak_bytes / max(device.memory_limit_bytes, 1)
        return (
            f"{memory(device.peak_bytes)} of {memory(device.memory_limit_bytes)}  ({share:.0f} %)"
        )

    parts, bottom = _rows(devices, row, words)
    parts += _x_axis(marks, x, bottom, "MiB: supervisor and worker together")
    told = "; ".join(f"{device.id} {words(device)}" for device in devices)
    return _svg(bottom + 44, f"Peak memory by device: {told}.", parts)


def role_words(role: str, rank: int) -> str:
    """Return a role as it is read: ``LoRA r16``, ``prompt``, ``infer``; a dash for none."""
    if role == "lora":
        return f"LoRA r{rank}" if rank else "LoRA"
    return role or "–"


def _rows(
    devices: Sequence[DeviceSummary],
    row: Callable[[DeviceSummary, float], list[Html]],
    words: Callable[[DeviceSummary], str],
) -> tuple[list[Html], float]:
    """Return each device's name, its numbers in words and its marks; and where they end."""
    parts: list[Html] = []
    for number, device in enumerate(devices):
        top = number * _ROW
        name = el("tspan", device.id, class_="name")
        role = el(
            "tspan", f"  {role_words(device.role, device.rank)}", class_=f"role {_role(device)}"
        )
        parts.append(el("text", name, role, x=_LEFT, y=top + 14))
        parts.append(_text(_RIGHT, top + 14, words(device), "value", "end"))
        parts += row(device, top)
    return parts, len(devices) * _ROW + 4


def _x_axis(
    marks: Sequence[float], x: Callable[[float], float], bottom: float, title: str
) -> list[Html]:
    parts = [_line(_LEFT, bottom, _RIGHT, bottom, "base")]
    for number, mark in enumerate(marks):
        parts.append(_line(x(mark), bottom, x(mark), bottom + 4, "base"))
        anchor = "start" if number == 0 else "end" if number == len(marks) - 1 else "middle"
        at = {"start": _LEFT, "end": _RIGHT, "middle": x(mark)}[anchor]
        parts.append(_text(at, bottom + 18, tick_word(mark, marks[1] - marks[0]), "tick", anchor))
    parts.append(_text(WIDTH / 2, bottom + 37, title, "axis", "middle"))
    return parts


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _role(device: DeviceSummary) -> str:
    return device.role if device.role in ("lora", "prompt", "infer") else "none"


def _svg(height: float, told: str, parts: Sequence[Html]) -> Html:
    view = f"0 0 {WIDTH:.0f} {height:.0f}"
    return el("svg", join(*parts), viewBox=view, role="img", aria_label=told)


def _nothing(why: str) -> Html:
    return el("p", f"Nothing to draw: {why}.", class_="empty")


def _text(x: float, y: float, words: str, class_: str, anchor: str | None = None) -> Html:
    return el("text", words, x=x, y=y, class_=class_, text_anchor=anchor)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _circle(x: float, y: float, class_: str) -> Html:
    return el("circle", cx=x, cy=y, r=5, class_=class_)


def _bar(x: float, y: float, to: float, height: float, class_: str) -> Html:
    width = max(to - x, 1.0)
    radius = min(2.0, width / 2)
    return el("rect", x=x, y=y, width=width, height=height, rx=radius, class_=f"bar {class_}")
