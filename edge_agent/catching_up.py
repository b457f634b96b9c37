"""The shortest way to an adapter: each part whole, or by differences from what is held.

A device that took part in the last round needs one difference. One that was away needs several,
which it finds by walking back through the manifests; as soon as they add up to more than the whole,
it takes that.
"""

from collections.abc import Callable

import msgspec

from wire.manifest import AdapterManifest, AdapterPart, BlobName, Difference

#: How far back is looked: an adapter is at most some twenty differences large.
MOST_ROUNDS = 32


class Way(msgspec.Struct, frozen=True):
    """How one part is had: ``held`` and the differences after it, the oldest first.

    ``held`` is None where the part itself is held or is gathered whole, and while the way is not
    known to its end: then ``older`` is the manifest that must be seen first.
    """

    part: AdapterPart
    held: str | None = None
    differences: tuple[Difference, ...] = ()
    older: BlobName | None = None

    @property
    def blobs(self) -> list[BlobName]:
        """What it takes, held or still to be gathered; without ``held``."""
        needed = self.differences or (self.part,)
        found = [
            BlobName(sha256=one.sha256, size_bytes=one.size_bytes, hashes=one.hashes)
            for one in needed
        ]
        return found if self.older is None else [*found, self.older]


def way_to(
    part: AdapterPart,
    manifest: AdapterManifest,
    holds: Callable[[str], bool],
    older: Callable[[str], AdapterManifest | None],
) -> Way:
    """Return the way to a part, as far as it can be told yet.

    Args:
        part: of ``manifest``.
        manifest: the adapter's.
        holds: whether a blob is here, whole.
        older: returns a manifest by its digest, None if it isn't here.
    """
    if holds(part.sha256):
        return Way(part)
    wanted, now, left_bytes = part.sha256, manifest, part.size_bytes
    differences: list[Difference] = []
    for _ in range(MOST_ROUNDS):
        change = next((one.difference for one in now.parts if one.sha256 == wanted), None)
        if change is not None:
            differences.insert(0, change)
            left_bytes -= 0 if holds(change.sha256) else change.size_bytes
            wanted = change.to
            if left_bytes <= 0:
                break
            if holds(wanted):
                return Way(part, wanted, tuple(differences))
        elif any(one.sha256 == wanted for one in now.parts):
            break  # it was published whole
        if now.previous is None:
            break
        before = older(now.previous.sha256)
        if before is None:
            return Way(part, None, tuple(differences), now.previous)
        now = before
    return Way(part)
