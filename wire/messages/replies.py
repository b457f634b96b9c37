"""What the hub answers. One topic, so the type is told by the field ``type``."""

from wire.messages.contract import Message
from wire.messages.requests import Ranges


class Welcome(Message, frozen=True, kw_only=True, tag_field="type", tag="welcome"):
    """The session is the device's only one; ``epoch`` is the hub's."""

    ROUTE = "reply"
    QOS = 0

    re: str
    session: str
    epoch: str
    hub_ts: float


class Refused(Message, frozen=True, kw_only=True, tag_field="type", tag="refused"):
    """No, and why. ``final`` means that asking again can't help; else begin anew."""

    ROUTE = "reply"
    QOS = 0

    re: str
    session: str
    reason: str
    final: bool = True


class Accepted(Message, frozen=True, kw_only=True, tag_field="type", tag="accepted"):
    """Done, on disk and recorded."""

    ROUTE = "reply"
    QOS = 0

    re: str
    session: str


class Credit(
    Message, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="credit"
):
    """Which chunks the receiver of an upload still lacks, and how many may be under way.

    It promises nothing: a hub that is started anew may lack more. Only `Accepted` is for good.
    With ``wrong``, all chunks came and don't make the blob: it is to be announced once more, with
    the digests of its chunks, so that the wrong ones alone are sent again. With ``unasked``, more
    of them come by themselves, after each half of a window that arrived; ``re`` is empty in those.
    """

    ROUTE = "reply"
    QOS = 0

    re: str
    session: str
    sha256: str
    missing: Ranges
    window: int
    wrong: bool = False
    unasked: bool = False


class BlobInfo(Message, frozen=True, kw_only=True, tag_field="type", tag="blob"):
    """The size of a blob whose chunks follow on the device's own data topic."""

    ROUTE = "reply"
    QOS = 0

    re: str
    session: str
    sha256: str
    size_bytes: int


Reply = Welcome | Refused | Accepted | Credit | BlobInfo
