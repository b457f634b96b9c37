"""What happened at the door, for the operator: kept in the database, and logged.

Whoever is refused tries again, and anybody may try: so the same thing is written once a minute at
most, and of all only the newest are kept.
"""

import logging
from collections import OrderedDict
from typing import Literal

from hub.store.identities import IdentityStore
from wire.quiet_log import one_line

log = logging.getLogger(__name__)

Kind = Literal[
    "asked", "enrolled", "renewed", "approved", "rejected", "revoked", "cloned",
    "token_refused", "request_refused", "session_refused", "ignored", "forbidden", "broker",
]  # fmt: skip
#: What an operator did, or an honest device: no trouble.
_ORDINARY = ("asked", "enrolled", "renewed", "approved", "rejected", "revoked")
PAUSE_S = 60.0
MOST = 10_000
_SUBJECTS = 1000
_MAX_LENGTH = 300


class Notes:
    """Writes notes; used on the coordinator's thread.

    Args:
        store: keeps them.
    """

    def __init__(self, store: IdentityStore) -> None:
        self._store = store
        self._last: OrderedDict[tuple[str, str], float] = OrderedDict()

    def note(self, kind: Kind, device: str | None, detail: str, now: float) -> None:
        """Write something down, unless it was a moment ago.

        Args:
            kind: what it is.
            device: whom it concerns; None: nobody that is known.
            detail: in words.
            now: Unix time, in seconds.
        """
        line = one_line(detail[:_MAX_LENGTH])
        subject = (kind, device or line)
        if kind not in _ORDINARY and now - self._last.get(subject, -PAUSE_S) < PAUSE_S:
            return
        self._last[subject] = now
        self._last.move_to_end(subject)
        while len(self._last) > _SUBJECTS:
            self._last.popitem(last=False)
        self._store.add_door(now, kind, device, line, MOST)
        level = logging.INFO if kind in _ORDINARY else logging.WARNING
        log.log(level, "%s, %s: %s", kind.replace("_", " "), device or "the door", line)
