"""A picture of a split: devices across, labels down, a disc's area for each count.

An SVG that stands by itself: its colours are the page's own (``currentColor``).
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from hub.demo.markup import Html, el, join

WIDTH = 400.0
_CELL_HEIGHT = 24.0
_TOP, _RIGHT = 30.0, 398.0
#: Of 12 units' letters, about.
_LETTER = 7.0
_MOST_LABEL = 18
#: More names than this would run into one another.
_MOST_NAMES = 12


def partition_chart(
    counts: NDArray[np.int64], devices: Sequence[str], labels: Sequence[str]
) -> Html:
    """Draw how many examples of each label each device has.

    Args:
        counts: (devices, labels), as `hub.simulation.partition.label_counts` returns it.
        devices: their names.
        labels: their names.

    Raises:
        ValueError: the names are not as many as the counts.
    """
    if counts.shape != (len(devices), len(labels)):
        raise ValueError(
            f"counts are {counts.shape[0]} x {counts.shape[1]}; there are {len(devices)} devices "
            f"and {len(labels)} labels."
        )
    if not counts.size:
        return el("p", "Nothing to draw: no device, or no label.", class_="empty")
    shown = [_short(label) for label in labels]
    left = 10 + _LETTER * max(len(label) for label in shown)
    step = (_RIGHT - left) / len(devices)
    bottom = _TOP + _CELL_HEIGHT * len(labels)
    # The largest disc just fills its cell.
    scale = min(step, _CELL_HEIGHT) / 2 / sqrt(max(1, int(counts.max())))
    parts = _grid(shown, left, bottom) + _names(devices, counts, left, step, bottom)
    for (device, label), count in np.ndenumerate(counts):
        if count:
            x, y = left + (device + 0.5) * step, _TOP + (label + 0.5) * _CELL_HEIGHT
            told = el("title", f"{devices[device]}, {labels[label]}: {int(count)}")
            # As text, for a radius needs more than one decimal.
            radius = f"{scale * sqrt(count):.2f}"
            parts.append(el("circle", told, cx=x, cy=y, r=radius, fill="currentColor"))
    return el(
        "svg",
        join(*parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:.0f} {bottom + 44:.0f}",
        role="img",
        aria_label=_told(counts, devices, labels),
        font_size=12,
    )


def _grid(labels: Sequence[str], left: float, bottom: float) -> list[Html]:
    parts = []
    for number, label in enumerate(labels):
        y = _TOP + (number + 0.5) * _CELL_HEIGHT
        parts.append(_text(left - 6, y + 4, label, "end"))
        parts.append(
            el("line", x1=left, y1=y, x2=_RIGHT, y2=y, stroke="currentColor", stroke_opacity="0.15")
        )
    parts.append(_text((left + _RIGHT) / 2, bottom + 38, "device, and its examples in all"))
    return parts


def _names(
    devices: Sequence[str], counts: NDArray[np.int64], left: float, step: float, bottom: float
) -> list[Html]:
    """Return each device's name above and its total below; of every so many where they are many."""
    every = -(-len(devices) // _MOST_NAMES)
    room = max(1, int(step * every / _LETTER))
    parts = []
    for number in range(0, len(devices), every):
        x = left + (number + 0.5) * step
        parts.append(_text(x, _TOP - 10, devices[number][:room]))
        parts.append(_text(x, bottom + 18, str(int(counts[number].sum()))[:room]))
    return parts


def _short(label: str) -> str:
    return label if len(label) <= _MOST_LABEL else label[: _MOST_LABEL - 1] + "…"


def _text(x: float, y: float, words: str, anchor: str = "middle") -> Html:
    return el("text", words, x=x, y=y, text_anchor=anchor, fill="currentColor")


def _told(counts: NDArray[np.int64], devices: Sequence[str], labels: Sequence[str]) -> str:
    """Return the picture in words: each device's total and its most frequent label."""
    told = []
    for device, row in zip(devices, counts, strict=True):
        total, most = int(row.sum()), int(row.argmax())
        share = f", {100 * row[most] / total:.0f} % {labels[most]}" if total else ""
        told.append(f"{device} {total}{share}")
    return f"Examples by device and label: {'; '.join(told)}."
