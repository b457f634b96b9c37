"""What ran out of memory on this device: remembered, also over a restart, until there is more.

A prediction that proved too low for one rung says nothing good of its smaller sizes, so they come
only when no other rung of the role is left. Of rungs that train, only others that train are left.
"""

import logging
from pathlib import Path

import msgspec

from wire.messages import RungPlan
from wire.version import LORIKEET_VERSION

log = logging.getLogger(__name__)

#: Jobs that are remembered, the newest ones.
_KEPT = 64


class _Kept(msgspec.Struct):
    limit_bytes: int
    version: str  # another one may predict otherwise, and take less
    least_bytes: dict[str, dict[str, int]]  # by job, and `_name` of a rung


class Failures:
    """By job, and rung and kind of file, the least prediction that proved to be too low.

    Args:
        file: where it is kept. One that can't be read counts as empty.
        limit_bytes: for the whole agent. What failed under a lower limit may succeed now.
    """

    def __init__(self, file: Path, limit_bytes: int) -> None:
        self._file = file
        self._limit_bytes = limit_bytes
        self._least_bytes: dict[str, dict[str, int]] = {}
        try:
            kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s is passed over: %s", file, error)
            return
        if limit_bytes <= kept.limit_bytes and kept.version == LORIKEET_VERSION:
            self._least_bytes = kept.least_bytes

    def limit_of(self, job: str) -> int:
        """Return what a line of a job's ladder may be predicted to take, in bytes."""
        least = [bytes_ - 1 for bytes_ in self._least_bytes.get(job, {}).values()]
        return min([self._limit_bytes, *least])

    def judge(self, job: str, lines: list[RungPlan]) -> list[RungPlan]:
        """Return a ladder in which rungs that failed don't fit, where another one of that use does.

        Args:
            job: whose ladder it is.
            lines: judged by `limit_of`.
        """
        failed = self._least_bytes.get(job, {})
        served = {_use(line) for line in lines if line.fits and _name(line) not in failed}
        return [
            msgspec.structs.replace(line, fits=False)
            if _name(line) in failed and _use(line) in served
            else line
            for line in lines
        ]

    def add(self, job: str, failed: RungPlan) -> None:
        """Remember that a line ran out of memory, though it was predicted to fit."""
        rungs = self._least_bytes.pop(job, {})
        predicted_bytes = failed.predicted_peak_bytes
        name = _name(failed)
        rungs[name] = min(predicted_bytes, rungs.get(name, predicted_bytes))
        self._least_bytes[job] = rungs
        for oldest in list(self._least_bytes)[:-_KEPT]:
            del self._least_bytes[oldest]
        kept = _Kept(self._limit_bytes, LORIKEET_VERSION, self._least_bytes)
        part = self._file.with_suffix(".part")
        try:
            part.write_bytes(msgspec.json.encode(kept))
            part.replace(self._file)
        except OSError as error:
            log.warning("%s can't be written: %s", self._file, error.strerror or error)


def _name(line: RungPlan) -> str:
    """Return a rung's name; what an engine holds depends on the kind of file, too."""
    return f"{line.rung} {line.derived}".strip()


def _use(line: RungPlan) -> tuple[str, bool]:
    """Return the role, and whether it trains: role ``infer`` does on rung ``forward-only``."""
    return line.role, line.rung != "infer"
