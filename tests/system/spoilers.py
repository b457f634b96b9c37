"""What a bad line does to chunks, by seed: one function a fault."""

import random
from collections import deque
from collections.abc import Callable

from tests.system.faulty_relay import Spoiler, packet, split_packet

_CHUNK = b"LKC1"
#: From one hit to the next: every update is hit some times, and gets through in the end.
GAP = (4, 8)


class Aim:
    """Says which packets are hit: one of the first few, and then one after each gap."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._left = chance.randrange(GAP[0])

    def hits(self) -> bool:
        self._left -= 1
        if self._left >= 0:
            return False
        self._left = self._chance.randint(*GAP) - 1
        return True


def duplicated(chance: random.Random) -> Spoiler:
    """Some packets come 2 to 9 times."""
    aim = Aim(chance)

    def spoil(packets: list[bytes]) -> list[bytes]:
        times = [chance.randint(2, 9) if aim.hits() else 1 for _ in packets]
        return [one for one, count in zip(packets, times, strict=True) for _ in range(count)]

    return spoil


def reordered(chance: random.Random) -> Spoiler:
    """Packets that were under way together come in any order, and after questions behind them."""

    def spoil(packets: list[bytes]) -> list[bytes]:
        return chance.sample(packets, len(packets))

    return spoil


def truncated(chance: random.Random) -> Spoiler:
    """Some chunks end early, at any byte of its header or data."""

    def cut(body: bytes) -> bytes:
        return body[: chance.randrange(body.index(_CHUNK), len(body))]

    return _each(chance, cut)


def corrupted(chance: random.Random) -> Spoiler:
    """Of some chunks one bit is turned, in the header or data."""

    def turn(body: bytes) -> bytes:
        at = chance.randrange(body.index(_CHUNK), len(body))
        return body[:at] + bytes([body[at] ^ 1 << chance.randrange(8)]) + body[at + 1 :]

    return _each(chance, turn)


def replayed(chance: random.Random) -> Spoiler:
    """Behind some packets come up to five that passed at any time before."""
    aim = Aim(chance)
    before: deque[bytes] = deque(maxlen=200)

    def spoil(packets: list[bytes]) -> list[bytes]:
        out: list[bytes] = []
        for one in packets:
            out.append(one)
            before.append(one)
            if aim.hits():
                out += chance.choices(before, k=chance.randint(1, 5))
        return out

    return spoil


SPOILERS: dict[str, Callable[[random.Random], Spoiler]] = {
    one.__name__: one for one in (duplicated, reordered, truncated, corrupted, replayed)
}


def _each(chance: random.Random, change: Callable[[bytes], bytes]) -> Spoiler:
    aim = Aim(chance)

    def spoil(packets: list[bytes]) -> list[bytes]:
        return [_changed(one, change) if aim.hits() else one for one in packets]

    return spoil


def _changed(whole: bytes, change: Callable[[bytes], bytes]) -> bytes:
    found = split_packet(bytearray(whole))
    if found is None:
        raise ValueError("the relay hands over whole packets only")
    kind, body = found
    return packet(kind, change(body))
