import re
from collections.abc import Callable
from typing import Any

from hub.demo import charts
from hub.demo.summary import Summary, parse

Make = Callable[..., dict[str, Any]]
MIB = 1024**2


def numbers(pattern: str, picture: str) -> list[tuple[float, ...]]:
    return [tuple(float(n) for n in found) for found in re.findall(pattern, picture)]


def dots(picture: str, kind: str) -> list[tuple[float, ...]]:
    return numbers(rf'<circle cx="([\d.]+)" cy="([\d.]+)" r="5" class="{kind}', picture)


def bars(picture: str, kind: str) -> list[float]:
    pattern = rf'width="([\d.]+)" height="[\d.]+" rx="[\d.]+" class="bar {kind}"'
    return [float(width) for width in re.findall(pattern, picture)]


def parsed(run: Make, **changes: Any) -> Summary:
    return parse(run(**changes))


def test_the_curve_begins_at_the_base_and_falls_in_proportion(run: Make) -> None:
    points = dots(charts.loss_by_round(parsed(run)), "dot")

    assert len(points) == 3
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x2 - x1 == x1 - x0 > 0
    # 2.5, 2.25, 2.0: equal steps down, and down is a larger y.
    assert abs((y2 - y1) - (y1 - y0)) < 0.2
    assert y1 > y0


def test_rounds_that_are_missing_leave_room(run: Make) -> None:
    half = dots(charts.loss_by_round(parsed(run, rounds=4)), "dot")
    whole = dots(charts.loss_by_round(parsed(run)), "dot")

    assert half[-1][0] < whole[-1][0]


def test_without_a_base_the_curve_begins_with_round_one(run: Make) -> None:
    picture = charts.loss_by_round(parsed(run, base_loss=None))

    assert len(dots(picture, "dot")) == 2
    assert "reference" not in picture


def test_a_lower_loss_after_lies_left_of_the_one_before(run: Make, device: Make) -> None:
    picture = charts.loss_by_device(parsed(run, devices=[device()]).devices)

    (before,), (after,) = dots(picture, "before lora"), dots(picture, "after lora")
    assert after[0] < before[0]
    assert after[1] == before[1]


def test_bars_of_bytes_are_in_proportion(run: Make, device: Make) -> None:
    one = device(bytes_up=1_000_000, bytes_down=4_000_000)

    picture = charts.bytes_by_device(parsed(run, devices=[one]).devices)

    (up,), (down,) = bars(picture, "up"), bars(picture, "down")
    assert abs(down / up - 4.0) < 0.01


def test_a_peak_over_the_limit_is_marked_and_one_that_is_unknown_has_no_bar(
    run: Make, device: Make
) -> None:
    over = device(memory_limit_bytes=100 * MIB, peak_bytes=200 * MIB)
    unknown = device(peak_bytes=None, predicted_peak_bytes=None)

    picture = charts.memory_by_device(parsed(run, devices=[over]).devices)
    (room,), (peak,) = bars(picture, "room"), bars(picture, "lora over")
    assert abs(peak / room - 2.0) < 0.01
    blank = charts.memory_by_device(parsed(run, devices=[unknown]).devices)
    assert "not measured; limit 500 MiB" in blank
    assert "bar lora" not in blank


def test_roles_in_words() -> None:
    assert charts.role_words("lora", 16) == "LoRA r16"
    assert charts.role_words("prompt", 0) == "prompt"
    assert charts.role_words("", 0) == "–"
