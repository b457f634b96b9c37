"""A device's text in words: how much there is, and what was left out; never the text."""

from wire.messages import DataSummary


def counted_words(data: DataSummary) -> str:
    """Return how much text there is, and what of it is left out."""
    words = f"{data.examples} examples, {data.held_out} of them held out"
    if data.skipped:
        words += f"; {data.skipped} broken lines are skipped"
    cleaned = cleaned_words(data)
    return f"{words}; {cleaned}" if cleaned else words


def cleaned_words(data: DataSummary) -> str:
    """Return what cleaning has done; empty if it did nothing."""
    found = (
        (data.duplicates, "duplicates"),
        (data.near_duplicates, "near duplicates"),
        (data.too_short, "too short"),
        (data.garbled, "garbled"),
    )
    left_out = ", ".join(f"{number} {name}" for number, name in found if number)
    redacted = f"{data.redacted} addresses and numbers are redacted" if data.redacted else ""
    return "; ".join(part for part in (left_out and f"left out: {left_out}", redacted) if part)
