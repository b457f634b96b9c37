"""The token that callers must give."""

import os
from pathlib import Path

from edge_agent.errors import UsageError
from edge_agent.serve_command import TOKEN_VARIABLE

_LEAST = 16
_MAX_BYTES = 4096


def read_token(file: str | None) -> str | None:
    """Return the token of a file's first line, or of the environment; None for none.

    Raises:
        UsageError: the file can't be read, or the token is too short to be one.
    """
    if file is None:
        found = os.environ.get(TOKEN_VARIABLE)
        if not found:
            return None
        name = TOKEN_VARIABLE
    else:
        name = "--token-file"
        try:
            with Path(file).open("rb") as opened:
                lines = opened.read(_MAX_BYTES).decode().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--token-file {file} can't be read ({error}).") from error
        found = lines[0].strip() if lines else ""
    if len(found) < _LEAST:
        raise UsageError(
            f"the token in {name} has {len(found)} characters; at least {_LEAST} are needed. Make "
            "one: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return found
