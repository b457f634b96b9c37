"""Numbers as people read them, and the round values that an axis is marked with."""

import math

MINUS = "−"


def loss(value: float | None) -> str:
    """Return a loss with three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def percent(share: float | None) -> str:
    """Return a signed share in percent with one decimal: ``−13.2 %``."""
    if share is None:
        return "–"
    sign = MINUS if share < 0 else "+"
    return f"{sign}{abs(share) * 100:.1f} %"


def transfer(size_bytes: int) -> str:
    """Return bytes on a link in powers of ten: ``812 kB``, ``1.24 MB``."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    if size_bytes < 999_500:
        return f"{size_bytes / 1e3:.0f} kB"
    return f"{size_bytes / 1e6:.2f} MB"


def memory(size_bytes: int | None) -> str:
    """Return bytes of memory in powers of two: ``412 MiB``, ``1.50 GiB``; a dash if unknown."""
    if size_bytes is None:
        return "–"
    if size_bytes < 1024**3:
        return f"{size_bytes / 1024**2:.0f} MiB"
    return f"{size_bytes / 1024**3:.2f} GiB"


def duration(seconds: float) -> str:
    """Return seconds as ``48 s`` or ``2 min 05 s``."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def ticks(low: float, high: float, about: int) -> list[float]:
    """Return round values from at or below ``low`` to at or above ``high``.

    Steps are 1, 2, 2.5 or 5 times a power of ten, the least of these that needs no more than
    ``about`` intervals for the span itself (Heckbert, "Nice numbers for graph labels", 1990).
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(power * f for f in (1, 2, 2.5, 5, 10, 20) if span / (power * f) <= about)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(number * step, 12) for number in range(first, last + 1)]


def tick_word(value: float, step: float) -> str:
    """Return a tick's label with as many decimals as the step needs."""
    decimals = next(d for d in range(7) if d == 6 or abs(round(step, d) - step) < step * 1e-6)
    return f"{value:.{decimals}f}"
