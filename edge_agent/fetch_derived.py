"""A base in a form that an engine reads: asked for at the hub, waited for, fetched, checked.

The hub makes such files when a device first asks. What comes is a model like any other, with a
digest of its own; that it was made of the job's base, the file itself says.
"""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import msgspec

from edge_agent.fetch import FetchError, fetch, trusted
from edge_agent.inference.errors import EngineError
from edge_agent.throttle import Throttle
from wire.derived import BASE_KEY
from wire.errors import MalformedError
from wire.gguf_header import read_header

_TIMEOUT_S = 30.0
#: A large base on a small hub takes minutes; longer than this a task waits for nothing.
_PATIENCE_S = 3600.0
_LEAST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
_ATTEMPTS = 5  # in a row without an answer
_MAX_ANSWER_BYTES = 64 * 1024

Progress = Callable[[int, int], None]


class NotMadeError(FetchError):
    """The hub makes no such file of this base, whenever it is asked."""


class _Answer(msgspec.Struct, frozen=True):
    """What the hub says of a derived base."""

    state: str = ""
    digest: str = ""
    done_bytes: int = 0
    total_bytes: int = 0


def fetch_derived(
    http: str,
    digest: str,
    kind: str,
    folder: str,
    progress: Progress,
    *,
    throttle: Throttle | None = None,
    wait: Callable[[float], object] | None = None,
) -> int:
    """Fetch what the hub makes of a base into a folder; return the bytes that were downloaded.

    Args:
        http: the hub's address.
        digest: of the base.
        kind: of `wire.derived.DERIVED`.
        folder: where the files go.
        progress: told how many of all bytes are made, then how many are there.
        throttle: lets the bytes of the files pass.
        wait: for so many seconds; a test's doesn't.

    Raises:
        NotMadeError: the hub can't make it of this base, or makes no such files.
        FetchError: the hub can't be reached, fails, or made it of something else.
        DayUsedUpError: the throttle lets no more pass today.
    """
    if not http.startswith(("http://", "https://")):
        raise FetchError(f"the hub's address is {http!r}; must begin with http:// or https://.")
    url = f"{http.rstrip('/')}/v1/models/{digest}/derived/{kind}"
    made = _await(url, kind, progress, threading.Event().wait if wait is None else wait)
    return fetch(http, made, folder, progress, throttle, check=partial(check_base, digest=digest))


def check_base(folder: Path, digest: str) -> None:
    """Check that derived files were made of a base.

    Raises:
        FetchError: they were not, or don't say.
    """
    for path in sorted(folder.glob("*.gguf")):
        try:
            said = read_header(path).metadata.get(BASE_KEY)
        except (MalformedError, OSError) as error:
            raise FetchError(f"{path.name} can't be used: {error}") from error
        _check_said(path, said, digest)
    for path in sorted(folder.glob("*.onnx")):
        from edge_agent.inference.onnx.model import OnnxModel

        try:
            model = OnnxModel(path, threads=1)
        except EngineError as error:
            raise FetchError(f"{path.name} can't be used: {error}") from error
        model.close()
        _check_said(path, model.base, digest)


def _check_said(path: Path, said: object, digest: str) -> None:
    if said != digest:
        raise FetchError(
            f"{path.name} was made of the base {str(said)[:12]}, not of {digest[:12]}; it is "
            "not used. The hub's folder of derived bases is damaged: remove it there."
        )


def _await(url: str, kind: str, progress: Progress, wait: Callable[[float], object]) -> str:
    """Return the digest of the files, once the hub has made them."""
    waited_s, failures = 0.0, 0
    while waited_s < _PATIENCE_S:
        pause_s = _LEAST_WAIT_S * 2**failures
        try:
            with urllib.request.urlopen(  # noqa: S310 - see above
                url, timeout=_TIMEOUT_S, context=trusted(url)
            ) as response:
                answer = _read(response)
                if response.status == 200:
                    return answer.digest
                failures = 0
                progress(answer.done_bytes, max(answer.total_bytes, 1))
                pause_s = _pause_s(response.headers.get("Retry-After"))
        except urllib.error.HTTPError as error:
            said = _said(error)
            error.close()
            if error.code in (404, 409):
                raise NotMadeError(f"the hub has no {kind} of this base: {said}") from None
            failures += 1
            reason = f"HTTP status {error.code}: {said}"
        except (OSError, HTTPException) as error:
            failures += 1
            reason = f"{type(error).__name__}: {error}"
        if failures >= _ATTEMPTS:
            raise FetchError(f"{url}: {_ATTEMPTS} attempts brought nothing ({reason}).")
        wait(pause_s)
        waited_s += pause_s
    raise FetchError(f"{url}: the hub made nothing within {_PATIENCE_S:.0f} s.")


def _read(response: HTTPResponse) -> _Answer:
    payload = response.read(_MAX_ANSWER_BYTES)
    try:
        return msgspec.json.decode(payload, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FetchError(f"what the hub says of a derived base can't be read: {error}") from error


def _pause_s(told: str | None) -> float:
    try:
        seconds = float(told or 1)
    except ValueError:
        seconds = 1.0
    return min(max(seconds, _LEAST_WAIT_S), _LONGEST_WAIT_S)


def _said(error: urllib.error.HTTPError) -> str:
    """Return the hub's sentence, cut to a readable length."""
    try:
        document = json.loads(error.read(_MAX_ANSWER_BYTES))
        return str(document["error"])[:500]
    except (OSError, ValueError, KeyError, TypeError, HTTPException):
        return str(error.reason)
