"""Is there private text to learn from?"""

from pathlib import Path

from edge_agent.data_words import counted_words
from edge_agent.doctor.contract import Finding, Subject, fail, ok, warn
from edge_agent.errors import DataError
from edge_agent.training.data import count

NAME = "data"


def check_data(subject: Subject) -> list[Finding]:
    """Count the text; none of it is shown."""
    settings = subject.settings
    if settings is None:
        return []
    missing = [path for path in settings.data if not Path(path).exists()]
    if missing:
        return [fail(NAME, f"{missing[0]} is gone", "put it back, or name another with --data.")]
    try:
        found = count([Path(path) for path in settings.data], settings.cleaning)
    except DataError as error:
        return [fail(NAME, str(error).rstrip("."), "mend the text.")]
    told = counted_words(found)
    if found.skipped:
        return [warn(NAME, told, "mend the lines that were skipped.")]
    return [ok(NAME, told)]
