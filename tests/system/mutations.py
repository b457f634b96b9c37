"""Messages that nobody would send, made of random bytes and of those that somebody did send."""

import copy
import json
import random
import string
from typing import Any

from wire.link import Received

#: What may stand in place of a field's value.
_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**53, -(2**63), 10**40, 1.5, -0.0, 1e308, "", "0" * 64, "a" * 5000,
    "../../etc/passwd", "\u0000", "\ud83d\ude00", [], [[]], [[0, 10**12]], [[5, 1], [0, 9]], {},
    {"a": {"b": {}}}, [None] * 500,
)  # fmt: skip


class Mutations:
    """Draws messages, for ever.

    Args:
        chance: decides everything.
        sent: what was really sent: topics and payloads.
        topics: where else nonsense may go.
    """

    def __init__(self, chance: random.Random, sent: list[Received], topics: list[str]) -> None:
        self._chance = chance
        self._sent = sent
        self._topics = topics + sorted({one.topic for one in sent})

    def draw(self) -> tuple[str, bytes]:
        """Return the next topic and payload."""
        chance = self._chance
        one = chance.choice(self._sent)
        match chance.randrange(8):
            case 0:
                return chance.choice(self._topics), chance.randbytes(chance.choice((0, 3, 300)))
            case 1:
                return chance.choice(self._topics), one.payload
            case 2:
                return one.topic, one.payload
            case 3:
                return one.topic, self._bytes(one.payload)
            case _:
                return one.topic, self._document(one.payload)

    def _bytes(self, payload: bytes) -> bytes:
        """Turn, drop or add some bytes."""
        changed = bytearray(payload)
        for _ in range(self._chance.randint(1, 8)):
            at = self._chance.randrange(len(changed) + 1)
            match self._chance.randrange(3):
                case 0:
                    changed[at : at + 1] = self._chance.randbytes(1)
                case 1:
                    del changed[at:]
                case _:
                    changed[at:at] = self._chance.randbytes(self._chance.randint(1, 40))
        return bytes(changed)

    def _document(self, payload: bytes) -> bytes:
        """Change some fields of a JSON document; what is none is changed byte by byte."""
        try:
            document = json.loads(payload)
        except ValueError:
            return self._bytes(payload)
        if not isinstance(document, dict) or not document:
            return self._bytes(payload)
        for _ in range(self._chance.randint(1, 2)):
            self._change(document)
        return json.dumps(document).encode()

    def _change(self, document: dict[str, Any]) -> None:
        chance = self._chance
        name = chance.choice(sorted(document))
        value = document[name]
        if isinstance(value, dict) and value and chance.random() < 0.7:
            self._change(value)
        elif chance.random() < 0.2:
            del document[name]
            document["".join(chance.choices(string.ascii_lowercase, k=5))] = value
            document.setdefault("id", "0")
        elif isinstance(value, str) and chance.random() < 0.5:
            document[name] = value[: chance.randrange(9)] + f"{chance.getrandbits(32):08x}"
        elif isinstance(value, int) and chance.random() < 0.5:
            document[name] = value + chance.choice((-1, 1, 2**31, -(2**31)))
        else:
            document[name] = copy.deepcopy(chance.choice(_ODD))  # it may be changed next
