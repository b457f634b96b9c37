import pytest

from hub.demo import numbers


@pytest.mark.parametrize(
    ("low", "high", "about", "expected"),
    [
        (2.05, 2.37, 6, [2.0, 2.1, 2.2, 2.3, 2.4]),
        (0.0, 4.3, 5, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
        (0.0, 520.0, 5, [0.0, 200.0, 400.0, 600.0]),
        (1.742, 2.83, 5, [1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0]),
        (2.0, 2.0, 4, [2.0, 2.5]),
        (0.0, 0.0, 4, [0.0, 0.25]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(
    low: float, high: float, about: int, expected: list[float]
) -> None:
    assert numbers.ticks(low, high, about) == expected


@pytest.mark.parametrize(
    ("value", "step", "word"), [(2.0, 0.1, "2.0"), (1.75, 0.25, "1.75"), (200.0, 200.0, "200")]
)
def test_tick_words_have_the_steps_decimals(value: float, step: float, word: str) -> None:
    assert numbers.tick_word(value, step) == word


def test_numbers_as_people_read_them() -> None:
    assert numbers.loss(2.34567) == "2.346"
    assert numbers.loss(None) == "–"
    assert numbers.percent(-0.1324) == "−13.2 %"
    assert numbers.percent(0.05) == "+5.0 %"
    assert numbers.percent(None) == "–"
    assert numbers.transfer(999) == "999 B"
    assert numbers.transfer(610_400) == "610 kB"
    assert numbers.transfer(4_300_000) == "4.30 MB"
    assert numbers.memory(512 * 1024**2) == "512 MiB"
    assert numbers.memory(3 * 1024**3 // 2) == "1.50 GiB"
    assert numbers.memory(None) == "–"
    assert numbers.duration(48.2) == "48 s"
    assert numbers.duration(125.0) == "2 min 05 s"
