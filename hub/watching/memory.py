"""What a watcher remembers: whose replies are whose, and which blob belongs to which task."""

from collections import OrderedDict

from wire.messages import BlobInit, Message, RoundAnnounce, Telemetry
from wire.topics import Route
from wire.transfer import Chunk

#: Requests and blobs that are remembered; the oldest are forgotten first.
MAX_REMEMBERED = 2000
_KEY_DIGITS = 16  # a chunk carries the first 8 bytes of its blob's sha256


class Memory:
    """Requests by device and id, blobs by the digest's beginning; bounded."""

    def __init__(self) -> None:
        self._requests: OrderedDict[tuple[str, str, str], tuple[str, str]] = OrderedDict()
        self._blobs: OrderedDict[str, str] = OrderedDict()

    def note(self, fleet: str, route: Route, message: Message) -> None:
        """Remember a request, and the blob that it announces."""
        if route.kind != "request":
            return
        task = str(getattr(message, "task", ""))
        identity = (fleet, route.device or "", str(getattr(message, "id", "")))
        _put(self._requests, identity, (route.name or "", task))
        if isinstance(message, BlobInit):
            _put(self._blobs, message.sha256[:_KEY_DIGITS], task)

    def asked(self, fleet: str, route: Route, message: Message) -> str:
        """Return what a reply answers, like ``take notes.1.ward``; empty if that wasn't seen."""
        identity = (fleet, route.device or "", str(getattr(message, "re", "")))
        op, task = self._requests.get(identity, ("", ""))
        return f"{op} {task}".strip()

    def job_of(self, fleet: str, route: Route, content: Message | Chunk) -> str | None:
        """Return the one job that a message concerns, as far as can be known."""
        if route.job is not None:
            return route.job
        if isinstance(content, Chunk):
            return _job(self._blobs.get(content.key.hex(), ""), route.device)
        if isinstance(content, RoundAnnounce):
            return content.job
        job = getattr(content, "job", None)
        if job is not None:
            return str(job)
        if isinstance(content, Telemetry):
            task = content.task.task if content.task is not None else ""
        else:
            task = str(getattr(content, "task", None) or "")
        if not task and route.kind == "reply":
            identity = (fleet, route.device or "", str(getattr(content, "re", "")))
            task = self._requests.get(identity, ("", ""))[1]
        return _job(task, route.device)


def _job(task: str, device: str | None) -> str | None:
    """Return the job in ``{job}.{round}.{device}``; both names may hold full stops."""
    rest = task.removesuffix(f".{device}")
    return rest.rpartition(".")[0] or None if rest != task else None


def _put(known: OrderedDict, key: object, value: object) -> None:  # type: ignore[type-arg]
    known[key] = value
    known.move_to_end(key)
    if len(known) > MAX_REMEMBERED:
        known.popitem(last=False)
