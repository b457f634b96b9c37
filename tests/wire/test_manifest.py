"""The adapter's manifest: the shapes it promises and what it may not say."""

import json
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from wire.errors import MalformedError, TooLargeError
from wire.manifest import (
    MAX_MANIFEST_BYTES,
    AdapterManifest,
    AdapterPart,
    BlobName,
    Difference,
    PrefixShape,
    TargetShape,
)

BASE, LORA, PROMPT = "a" * 64, "b" * 64, "c" * 64
Q = "model.layers.0.self_attn.q_proj"


def sample() -> AdapterManifest:
    return AdapterManifest(
        job="clinic-notes",
        round=3,
        base=BASE,
        rank=8,
        tokens=16,
        shapes={Q: TargetShape(inputs=64, outputs=96)},
        hidden_size=64,
        parts=[
            AdapterPart(name="lora", slice=0, sha256=LORA, size_bytes=5000, codec="bf16"),
            AdapterPart(name="prompt", sha256=PROMPT, size_bytes=900, codec="raw"),
        ],
    )


def as_json() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(zlib.decompress(sample().encode()))
    return document


def test_it_comes_back_as_it_was() -> None:
    assert AdapterManifest.decode(sample().encode()) == sample()


def test_its_json_is_what_the_contract_says() -> None:
    assert as_json()["shapes"] == {Q: {"in": 64, "out": 96}}
    assert as_json()["parts"][0] == {
        "name": "lora",
        "sha256": LORA,
        "size_bytes": 5000,
        "codec": "bf16",
    }


def test_the_order_of_targets_does_not_change_its_bytes() -> None:
    shapes = {"b": TargetShape(inputs=1, outputs=2), "a": TargetShape(inputs=3, outputs=4)}
    one, other = (
        AdapterManifest(
            job="j", round=0, base=BASE, rank=1, tokens=0, shapes=order, hidden_size=1, parts=[]
        )
        for order in (shapes, dict(reversed(shapes.items())))
    )
    assert one.encode() == other.encode()


def test_factors_of_a_rank_have_these_shapes() -> None:
    assert sample().expected_lora(2) == {f"{Q}.lora_A": (2, 64), f"{Q}.lora_B": (96, 2)}
    assert sample().expected_lora(0) == {}


def test_a_target_may_have_fewer_components_than_the_adapter() -> None:
    shapes = {"q": TargetShape(inputs=5, outputs=7), "v": TargetShape(inputs=5, outputs=3, rank=2)}
    parts = [
        AdapterPart(name="lora", sha256=sha, size_bytes=10, codec="bf16", slice=index, rank=rank)
        for index, (sha, rank) in enumerate([(LORA, 1), (PROMPT, 3)])
    ]
    manifest = AdapterManifest(
        job="j", round=0, base=BASE, rank=4, tokens=0, shapes=shapes, hidden_size=1, parts=parts
    )
    assert AdapterManifest.decode(manifest.encode()) == manifest
    assert manifest.expected_lora(1)["v.lora_A"] == (1, 5)
    assert manifest.expected_lora(4)["v.lora_B"] == (3, 2)
    # Of components 2, 3 and 4 v has only the second.
    assert manifest.expected(parts[1]) == {
        "q.lora_A": (3, 5), "q.lora_B": (7, 3), "v.lora_A": (1, 5), "v.lora_B": (3, 1),
    }  # fmt: skip
    assert list(manifest.expected_lora(4, 2)) == ["q.lora_A", "q.lora_B"]


def test_a_target_has_no_more_components_than_the_adapter() -> None:
    shapes = {"q": TargetShape(inputs=5, outputs=7, rank=3)}
    manifest = AdapterManifest(
        job="j", round=0, base=BASE, rank=4, tokens=0, shapes=shapes, hidden_size=1, parts=[]
    )
    with pytest.raises(MalformedError, match="gives q rank 3; its adapter has 2"):
        msgspec.structs.replace(manifest, rank=2).encode()


def test_the_prompt_has_this_shape() -> None:
    assert sample().expected_prompt() == {"prompt": (16, 64)}


def test_a_prefix_has_keys_and_values_of_every_layer() -> None:
    manifest = msgspec.structs.replace(
        sample(), prefix=PrefixShape(layers=2, heads=3, size=8), parts=[]
    )
    assert AdapterManifest.decode(manifest.encode()) == manifest
    assert manifest.expected_prompt() == {
        f"prefix.{layer}.{kind}": (3, 16, 8) for layer in (0, 1) for kind in ("key", "value")
    }


def test_each_part_has_a_blob_of_its_own() -> None:
    parts = [
        AdapterPart(name="lora", sha256=LORA, size_bytes=9, codec="bf16", slice=at, rank=4)
        for at in (0, 1)
    ]
    with pytest.raises(MalformedError, match="names a blob twice"):
        msgspec.structs.replace(sample(), parts=parts)


def test_no_tokens_means_no_prompt() -> None:
    document = as_json() | {"tokens": 0}
    del document["parts"][1]
    assert (
        AdapterManifest.decode(zlib.compress(json.dumps(document).encode())).expected_prompt() == {}
    )


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("job", "a/b", "job"),
        ("job", "", "job"),
        ("round", -1, "round"),
        ("round", 1.5, "round"),
        ("base", "A" * 64, "base"),
        ("base", "a" * 63, "base"),
        ("base", "a" * 64 + "\n", "base"),
        ("rank", 0, "rank 0"),
        ("rank", 4097, "rank"),
        ("rank", "8", "rank"),
        ("tokens", 0, "0 tokens"),
        ("tokens", 2**40, "tokens"),
        ("hidden_size", 0, "hidden_size"),
        ("shapes", {}, "0 targets"),
        ("shapes", {Q: {"in": 64}}, "out"),
        ("shapes", {Q: {"in": 0, "out": 1}}, "in"),
        ("shapes", {Q: {"in": 2**21, "out": 1}}, "in"),
        ("shapes", {"../x": {"in": 1, "out": 1}}, "shapes"),
        ("shapes", {"q::x": {"in": 1, "out": 1}}, "shapes"),
        ("parts", [{"name": "lora"}], "parts"),
        ("parts", None, "parts"),
    ],
)
def test_impossible_values_are_refused_by_name(key: str, value: object, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        AdapterManifest.decode(zlib.compress(json.dumps(as_json() | {key: value}).encode()))


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "core"), ("sha256", "x" * 64), ("size_bytes", 0), ("slice", -1), ("codec", "")],
)
def test_impossible_parts_are_refused(key: str, value: object) -> None:
    document = as_json()
    document["parts"][0][key] = value
    with pytest.raises(MalformedError, match="parts"):
        AdapterManifest.decode(zlib.compress(json.dumps(document).encode()))


def test_two_blobs_for_one_slice_are_refused() -> None:
    document = as_json()
    document["parts"].append(document["parts"][0])
    with pytest.raises(MalformedError, match="twice"):
        AdapterManifest.decode(zlib.compress(json.dumps(document).encode()))


def test_more_than_the_cap_is_refused_unparsed() -> None:
    with pytest.raises(TooLargeError):
        AdapterManifest.decode(b"x" * (MAX_MANIFEST_BYTES + 1))


@pytest.mark.parametrize("payload", [b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"1"])
def test_what_is_no_manifest_is_malformed(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        AdapterManifest.decode(payload)
    with pytest.raises(MalformedError):
        AdapterManifest.decode(zlib.compress(payload))


def test_what_unpacks_to_more_than_the_cap_is_refused() -> None:
    bomb = zlib.compress(b" " * (64 * MAX_MANIFEST_BYTES), 9)
    assert len(bomb) < MAX_MANIFEST_BYTES // 10
    with pytest.raises(TooLargeError):
        AdapterManifest.decode(bomb)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_a_stream_that_is_cut_off_or_goes_on_is_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(MalformedError):
        AdapterManifest.decode(change(sample().encode()))


def test_a_difference_names_the_part_that_it_is_taken_to() -> None:
    change = Difference(to="d" * 64, sha256="e" * 64, size_bytes=70, codec="entropy")
    one, other = sample().parts
    manifest = msgspec.structs.replace(
        sample(),
        parts=[msgspec.structs.replace(one, difference=change), other],
        previous=BlobName(sha256="f" * 64, size_bytes=300),
    )
    assert AdapterManifest.decode(manifest.encode()) == manifest


def test_targets_that_repeat_one_another_cost_little() -> None:
    shapes = {
        f"model.layers.{n}.mlp.{name}": TargetShape(inputs=2048, outputs=5632)
        for n in range(22)
        for name in ("gate_proj", "up_proj", "down_proj")
    }
    assert len(msgspec.structs.replace(sample(), shapes=shapes).encode()) < 1000


def test_what_no_receiver_would_take_is_not_written() -> None:
    bad = AdapterPart(name="lora", sha256="short", size_bytes=1, codec="raw")
    manifest = AdapterManifest(
        job="j",
        round=0,
        base=BASE,
        rank=1,
        tokens=0,
        shapes={"q": TargetShape(inputs=1, outputs=1)},
        hidden_size=1,
        parts=[bad],
    )
    with pytest.raises(MalformedError, match="sha256"):
        manifest.encode()


def test_a_newer_hub_may_add_a_field() -> None:
    document = as_json() | {"kind": "soft"}
    assert AdapterManifest.decode(zlib.compress(json.dumps(document).encode())) == sample()


def test_parts_larger_than_their_tensors_are_refused() -> None:
    """Rank 8 of (64, 96): 1280 numbers, 5120 bytes raw; nobody makes room for 64 GiB."""
    document = as_json()
    document["parts"][0]["size_bytes"] = 2**36
    with pytest.raises(TooLargeError, match="lora parts have 68719476736 bytes"):
        AdapterManifest.decode(zlib.compress(json.dumps(document).encode()))


def test_many_slices_do_not_claim_more_than_all_tensors_take() -> None:
    document = as_json()
    # Rank 4096 of (64, 96): 655,360 numbers, 2.6 MB raw; 4096 slices of 5,000 bytes claim 20.
    document["rank"] = 4096
    document["parts"] = [
        document["parts"][0] | {"slice": number, "rank": 1, "sha256": f"{number:064x}"}
        for number in range(4096)
    ]
    with pytest.raises(TooLargeError, match="can't take more"):
        AdapterManifest.decode(zlib.compress(json.dumps(document).encode()))


def test_a_difference_larger_than_its_tensors_is_refused() -> None:
    document = as_json()
    change = {"to": "e" * 64, "sha256": "f" * 64, "size_bytes": 2**30, "codec": "entropy"}
    document["parts"][1]["difference"] = change
    with pytest.raises(TooLargeError, match="prompt parts have 1073741824 bytes"):
        AdapterManifest.decode(zlib.compress(json.dumps(document).encode()))


def sliced(*ranks: int) -> AdapterManifest:
    parts = [
        AdapterPart(
            name="lora", slice=n, rank=rank, sha256=f"{n}" * 64, size_bytes=900, codec="bf16"
        )
        for n, rank in enumerate(ranks)
    ]
    return msgspec.structs.replace(sample(), parts=parts[::-1])


def test_slices_have_the_shapes_of_their_components() -> None:
    manifest = sliced(2, 6)
    assert [part.rank for part in manifest.lora_slices()] == [2, 6]
    first = manifest.lora_slices()[0]
    assert manifest.expected(first) == {f"{Q}.lora_A": (2, 64), f"{Q}.lora_B": (96, 2)}
    assert AdapterManifest.decode(manifest.encode()) == manifest


@pytest.mark.parametrize("ranks", [(2, 5), (2, 7), (0, 8), (8, 0), (4,), (9,)])
def test_slices_that_are_not_just_its_components_are_refused(ranks: tuple[int, ...]) -> None:
    with pytest.raises(MalformedError, match="slices have ranks"):
        sliced(*ranks)


def test_a_prompt_has_no_rank() -> None:
    prompt = AdapterPart(name="prompt", rank=8, sha256=PROMPT, size_bytes=9, codec="raw")
    with pytest.raises(MalformedError, match="part prompt a rank"):
        msgspec.structs.replace(sample(), parts=[prompt])


def whole(**changes: Any) -> AdapterManifest:
    """Return an adapter of a base's weights, six and three numbers."""
    values: dict[str, Any] = {"rank": 0, "tokens": 0, "shapes": {}, "parts": []} | changes
    weights: dict[str, tuple[int, ...]] = {"w.weight": (2, 3), "norm.weight": (3,)}
    return msgspec.structs.replace(sample(), **{"weights": weights} | values)


def of_weights(size_bytes: int = 9) -> AdapterPart:
    return AdapterPart(name="full", sha256=LORA, size_bytes=size_bytes, codec="entropy")


def test_weights_need_no_part_until_they_have_moved() -> None:
    start = whole()
    assert AdapterManifest.decode(start.encode()) == start
    assert start.expected_full() == {"w.weight": (2, 3), "norm.weight": (3,)}
    moved = whole(parts=[of_weights()])
    assert moved.expected(moved.parts[0]) == start.expected_full()
    assert AdapterManifest.decode(moved.encode()) == moved


def test_an_adapter_without_weights_is_told_as_ever() -> None:
    assert "weights" not in as_json()
    assert sample().expected_full() == {}


def test_a_part_of_weights_that_nobody_named_is_refused() -> None:
    with pytest.raises(MalformedError, match="names no weight"):
        whole(weights={}, parts=[of_weights()])


def test_a_part_of_weights_comes_whole() -> None:
    for changes in ({"rank": 2}, {"slice": 1}):
        with pytest.raises(MalformedError, match="part full a rank or a slice"):
            whole(parts=[msgspec.structs.replace(of_weights(), **changes)])


def test_a_part_larger_than_its_weights_is_refused() -> None:
    # Nine numbers: 45 bytes and 256 a tensor, and what a manifest may take.
    most = 45 + 2 * 256 + MAX_MANIFEST_BYTES
    whole(parts=[of_weights(most)])
    with pytest.raises(TooLargeError, match="full parts have"):
        whole(parts=[of_weights(most + 1)])


@pytest.mark.parametrize("shape", [[], [0], [2**20 + 1], [1] * 5])
def test_impossible_weights_are_refused(shape: list[int]) -> None:
    document = as_json() | {"weights": {"w": shape}}
    with pytest.raises(MalformedError, match="weights"):
        AdapterManifest.decode(zlib.compress(json.dumps(document).encode()))
