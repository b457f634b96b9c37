"""Turns what passes the broker into lines: who says what, and whether it is news."""

import msgspec

from hub.watching.chunk_counts import ChunkCounts, Told
from hub.watching.memory import Memory
from hub.watching.reading import Reading
from hub.watching.text import clock_word, exact_bytes, one_line
from hub.watching.words import Words, say
from wire.messages import DeviceInfo, Telemetry
from wire.topics import SENDERS, Route, Topics, fleet_of
from wire.transfer import Chunk

#: Of a line's text; what a stranger makes longer is cut.
MAX_LINE = 600
#: Devices whose last telemetry is remembered.
MAX_DEVICES = 10_000
#: Topics whose retained message is remembered.
MAX_STANDING = 20_000
_TO_ALL = ("hub_state", "job_round", "job_phase", "slice_chunk")


class Line(msgspec.Struct, frozen=True):
    """One line for a person, already harmless to a terminal."""

    who: str
    text: str
    style: str = ""
    note: str = ""  # that it was retained, and when it was said


class Watcher:
    """What is shown of a stream of messages.

    Args:
        one_fleet: the fleet need not be named on each line.
        job: only what concerns this job.
        everything: also telemetry that tells nothing new.
    """

    def __init__(self, *, one_fleet: bool, job: str | None = None, everything: bool) -> None:
        self._one_fleet = one_fleet
        self._job = job
        self._everything = everything
        self._memory = Memory()
        self._chunks = ChunkCounts()
        self._telemetry: dict[tuple[str, str | None], tuple[str, ...]] = {}
        self._standing: dict[str, int] = {}  # by topic, a hash of what stands there

    def concerns(self, reading: Reading) -> bool:
        """Tell whether a message belongs to the job that is watched; note it for those after it."""
        route, content = reading.route, reading.content
        if route is None or content is None:
            return self._job is None
        if not isinstance(content, Chunk):
            self._memory.note(reading.fleet, route, content)
        if self._job is None:
            return True
        if isinstance(content, DeviceInfo):
            return self._job in content.plans
        return self._memory.job_of(reading.fleet, route, content) == self._job

    def take(self, reading: Reading, now: float) -> list[Line]:
        """Return the lines that a message brings; a chunk is only counted.

        Args:
            now: seconds, of any clock that only goes forward.
        """
        if not self.concerns(reading):
            return []
        if isinstance(reading.content, Chunk):
            return self._counted(self._chunks.add(reading.topic, reading.content, now))
        if isinstance(reading.content, Telemetry) and not self._is_news(reading, reading.content):
            return []
        if self._stands(reading):
            return []
        words = self._words(reading)
        note = ""
        if reading.retained:
            ts = getattr(reading.content, "ts", None)
            note = f"retained, of {clock_word(ts)}" if ts else "retained"
        who = self._who(reading.topic, reading.fleet, reading.route)
        return [Line(who, one_line(words.text, MAX_LINE), words.style, note)]

    def due(self, now: float) -> list[Line]:
        """Return the lines of blobs whose chunks have come."""
        return self._counted(self._chunks.due(now))

    def rest(self) -> list[Line]:
        """Return the lines of blobs that were not told yet."""
        return self._counted(self._chunks.rest())

    def _words(self, reading: Reading) -> Words:
        count = exact_bytes(len(reading.payload))
        if reading.fault:
            return Words(f"malformed, {count}: {one_line(reading.fault)}", "yellow")
        if not reading.payload:
            return Words("cleared: nothing is retained here any more", "dim")
        if reading.route is None or reading.content is None or isinstance(reading.content, Chunk):
            return Words(f"{count} that this version doesn't know", "yellow")
        words = say(reading.content)
        if reading.route.kind == "reply":
            asked = self._memory.asked(reading.fleet, reading.route, reading.content)
            return Words(words.text + (f" ({one_line(asked)})" if asked else ""), words.style)
        return words

    def _who(self, topic: str, fleet: str, route: Route | None) -> str:
        if route is None:
            return one_line(topic)
        if route.kind in _TO_ALL:
            who = f"job {route.job}" if route.job else "hub"
        else:
            who = f"{'hub → ' if SENDERS[route.kind] == 'hub' else ''}{route.device}"
        return who if self._one_fleet else f"{fleet}/{who}"

    def _stands(self, reading: Reading) -> bool:
        """Tell whether a retained message was shown already; note one that will be retained.

        They come again after each reconnect, though nobody said anything.
        """
        if reading.content is None or not getattr(reading.content, "RETAIN", False):
            return False
        now = hash(reading.payload)
        before = self._standing.pop(reading.topic, None)
        self._standing[reading.topic] = now  # the newest last
        if len(self._standing) > MAX_STANDING:
            del self._standing[next(iter(self._standing))]
        return reading.retained and now == before

    def _is_news(self, reading: Reading, telemetry: Telemetry) -> bool:
        """Tell whether a snapshot has another task, stage or rung, or another reason to rest."""
        if self._everything:
            return True
        task = telemetry.task
        now = (
            *((task.task, task.stage, task.rung) if task is not None else ()),
            telemetry.paused or "",
        )
        key = (reading.fleet, reading.route.device if reading.route is not None else None)
        before = self._telemetry.pop(key, ("",))
        self._telemetry[key] = now  # the newest last
        if len(self._telemetry) > MAX_DEVICES:
            del self._telemetry[next(iter(self._telemetry))]
        return now != before

    def _counted(self, told: list[Told]) -> list[Line]:
        return [self._count(one) for one in told]

    def _count(self, told: Told) -> Line:
        fleet = fleet_of(told.topic) or ""
        route = Topics(fleet).parse(told.topic)
        kind = route.kind if route is not None else ""
        names = {"upload_chunk": "update", "repair_chunk": "repair"}
        what = names.get(kind) or f"slice {route.name if route is not None else ''}"
        count = "1 chunk" if told.chunks == 1 else f"{told.chunks:,} chunks"
        text = f"{what}: {count}, {exact_bytes(told.size_bytes)} (blob {told.blob})"
        return Line(self._who(told.topic, fleet, route), text, "dim")
