"""Which blobs bring a device to the newest adapter: counted by hand."""

from edge_agent.catching_up import Way, way_to
from wire.manifest import AdapterManifest, AdapterPart, BlobName, Difference, TargetShape


def digest(name: str) -> str:
    return (name.encode().hex() + "0" * 64)[:64]


def part(round_: int, *, size: int = 100, change: int | None = 30) -> AdapterPart:
    """Return the part after a round: of 100 bytes, or of 30 to the part before."""
    difference = None
    if change is not None:
        difference = Difference(
            to=digest(f"whole{round_ - 1}"),
            sha256=digest(f"change{round_}"),
            size_bytes=change,
            codec="entropy",
        )
    return AdapterPart(
        name="lora",
        sha256=digest(f"whole{round_}"),
        size_bytes=size,
        codec="bf16",
        difference=difference,
    )


def manifest(round_: int, *parts: AdapterPart) -> AdapterManifest:
    previous = None
    if round_ > 0:
        previous = BlobName(sha256=digest(f"manifest{round_ - 1}"), size_bytes=10)
    return AdapterManifest(
        job="j",
        round=round_,
        base="a" * 64,
        rank=1,
        tokens=0,
        shapes={"q": TargetShape(inputs=2, outputs=2)},
        hidden_size=2,
        parts=list(parts),
        previous=previous,
    )


ROUNDS = {
    digest("manifest0"): manifest(0, part(0, change=None)),
    **{digest(f"manifest{n}"): manifest(n, part(n)) for n in range(1, 9)},
}


def way(newest: int, *held: str, seen: dict[str, AdapterManifest] = ROUNDS) -> Way:
    names = {digest(name) for name in held}
    top = ROUNDS[digest(f"manifest{newest}")]
    return way_to(top.parts[0], top, names.__contains__, seen.get)


def names(found: Way) -> tuple[str | None, list[str]]:
    return found.held, [one.sha256 for one in found.blobs]


def test_what_is_held_is_the_way() -> None:
    assert names(way(3, "whole3")) == (None, [digest("whole3")])


def test_who_took_part_in_the_last_round_needs_one_difference() -> None:
    assert names(way(3, "whole2")) == (digest("whole2"), [digest("change3")])


def test_who_was_away_needs_the_differences_in_their_order() -> None:
    found = names(way(3, "whole0"))
    assert found == (digest("whole0"), [digest(f"change{n}") for n in (1, 2, 3)])


def test_differences_that_add_up_to_the_whole_are_not_worth_it() -> None:
    # Four of 30 bytes are more than 100.
    assert names(way(4, "whole0")) == (None, [digest("whole4")])


def test_differences_that_were_gathered_already_cost_nothing() -> None:
    gathered = [f"change{n}" for n in (1, 2, 3)]
    found = names(way(5, "whole0", *gathered))
    assert found == (digest("whole0"), [digest(f"change{n}") for n in range(1, 6)])


def test_an_older_manifest_that_is_not_here_is_asked_for_first() -> None:
    seen = {digest("manifest3"): ROUNDS[digest("manifest3")]}
    found = way(3, "whole0", seen=seen)
    assert found.older == BlobName(sha256=digest("manifest2"), size_bytes=10)
    # The last difference is needed in any case, and is being broadcast just now.
    assert names(found) == (None, [digest("change3"), digest("manifest2")])


def test_a_newcomer_gets_the_whole() -> None:
    assert names(way(2)) == (None, [digest("whole2")])
    assert names(way(0)) == (None, [digest("whole0")])


def test_a_part_that_did_not_change_in_a_round_is_looked_for_further_back() -> None:
    # Nobody trained it in round 2, so it stands there as it was after round 1.
    still = manifest(2, part(1))
    top = manifest(3, part(1))
    seen = ROUNDS | {digest("manifest2"): still}
    found = way_to(top.parts[0], top, {digest("whole0")}.__contains__, seen.get)
    assert names(found) == (digest("whole0"), [digest("change1")])


def test_a_part_that_was_published_whole_on_the_way_ends_the_search() -> None:
    seen = ROUNDS | {digest("manifest2"): manifest(2, part(2, change=None))}
    top = ROUNDS[digest("manifest3")]
    found = way_to(top.parts[0], top, {digest("whole0")}.__contains__, seen.get)
    assert names(found) == (None, [digest("whole3")])
