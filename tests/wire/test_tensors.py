"""Packed tensor sets: what a peer may lie about, and that reading stays lazy."""

import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.codecs import CODEC_NAMES, by_name
from wire.errors import MalformedError, TooLargeError
from wire.tensors import PackedFile, most_packed_bytes, pack, reading

SHAPES = {"q.lora_A": (2, 3), "q.lora_B": (4, 2)}


def sample() -> dict[str, np.ndarray]:
    return {
        "q.lora_A": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        "q.lora_B": np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32),
    }


def packed(codec: str = "raw") -> bytes:
    return pack(sample(), by_name(codec), seed=1)


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("on_disk", [False, True])
def test_what_was_packed_comes_back(codec: str, on_disk: bool, tmp_path: Path) -> None:
    source: bytes | Path = packed(codec)
    if on_disk:
        (tmp_path / "set").write_bytes(packed(codec))
        source = tmp_path / "set"
    with PackedFile.open(source, SHAPES) as file:
        assert file.codec == codec
        assert file.names() == ["q.lora_A", "q.lora_B"]
        for name, tensor in sample().items():
            bound = by_name(codec).error_bound(tensor)
            np.testing.assert_allclose(file.get(name), tensor, rtol=0, atol=bound)


def test_the_bytes_of_two_small_tensors() -> None:
    # The module's table, by hand: 6 and 8 numbers of 4 bytes; names sorted.
    check = zlib.crc32(b"q.lora_A [2, 3]\nq.lora_B [4, 2]").to_bytes(4, "little")
    a, b = (sample()[name].astype("<f4").tobytes() for name in sorted(SHAPES))
    assert packed() == b"LKP\x02\x03raw" + check + b"\x18" + a + b"\x20" + b


def test_a_length_over_127_takes_two_bytes() -> None:
    # 75 numbers of 4 bytes are 300 = 0b10_0101100: 0x2C with the sign to go on, then 2.
    data = pack({"w": np.zeros(75, np.float32)}, by_name("raw"), 0)
    assert data[12:14] == b"\xac\x02"
    assert len(data) == 14 + 300


@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_no_set_is_larger_than_announced(codec: str) -> None:
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    assert len(pack(tensors, by_name(codec), 0)) <= most_packed_bytes(SHAPES, by_name(codec))


def test_the_same_tensors_give_the_same_bytes_in_every_process() -> None:
    code = (
        "import sys, numpy as np; from wire.codecs import by_name; from wire.tensors import pack\n"
        "t = {k: np.arange(70, dtype=np.float32).reshape(7, 10) / 3 for k in 'cab'}\n"
        "sys.stdout.buffer.write(pack(t, by_name('int8'), 5))"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        for _ in range(4)
    }
    assert len(outputs) == 1
    assert outputs.pop()


def test_rounding_depends_on_the_name_not_on_the_company() -> None:
    tensor = np.linspace(-1, 1, 200, dtype=np.float32)
    codec = by_name("int8")
    alone = PackedFile.open(pack({"a": tensor}, codec, 3), {"a": (200,)}).get("a")
    both = pack({"a": tensor, "b": tensor}, codec, 3)
    with PackedFile.open(both, {"a": (200,), "b": (200,)}) as file:
        np.testing.assert_array_equal(file.get("a"), alone)
        assert not np.array_equal(file.get("b"), alone)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_packed(bad: float) -> None:
    with pytest.raises(ValueError, match="w has entries"):
        pack({"w": np.array([1.0, bad], np.float32)}, by_name("raw"), 0)


@pytest.mark.parametrize("codec", ["raw", "bf16"])
@pytest.mark.parametrize("bits", [0x7FC0, 0x7F80, 0xFF80])  # NaN, inf, -inf in bfloat16
def test_what_is_not_finite_is_refused_on_arrival(codec: str, bits: int) -> None:
    data = bytearray(pack({"w": np.ones(1, np.float32)}, by_name(codec), 0))
    ending = bits.to_bytes(2, "little")
    data[-2:] = ending
    with (
        PackedFile.open(bytes(data), {"w": (1,)}) as file,
        pytest.raises(MalformedError, match="w has entries that are NaN or infinite"),
    ):
        file.get("w")


def test_an_infinite_scale_is_refused_on_arrival() -> None:
    data = pack({"w": np.ones(1, np.float32)}, by_name("int8"), 0)
    data = data.replace(np.float32(1 / 127).tobytes(), np.float32(np.inf).tobytes())
    with PackedFile.open(data, {"w": (1,)}) as file, pytest.raises(MalformedError):
        file.get("w")


@pytest.mark.parametrize(
    "expected",
    [
        {**SHAPES, "extra": (1,)},
        {"q.lora_A": (2, 3)},
        {"q.lora_A": (3, 2), "q.lora_B": (4, 2)},
        {"q.lora_A": (2, 3), "v.lora_B": (4, 2)},
        {"q.lora_A": (6,), "q.lora_B": (4, 2)},
        {},
    ],
)
def test_other_tensors_than_expected_are_refused(expected: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(MalformedError, match=f"not of the {len(expected)} tensors"):
        PackedFile.open(packed(), expected)


def with_length(length: bytes) -> bytes:
    """The same set, with another length of its first tensor."""
    return packed()[:12] + length + packed()[13:]


@pytest.mark.parametrize("length", [b"\x19", b"\x20", b"\xff\x7f", b"\xff\xff\xff\xff\x7f"])
def test_a_tensor_that_claims_more_than_its_codec_makes_is_refused(length: bytes) -> None:
    with pytest.raises(TooLargeError, match=r"q\.lora_A has \d+ bytes; raw makes 24"):
        PackedFile.open(with_length(length), SHAPES)


def test_a_length_without_end_is_refused() -> None:
    with pytest.raises(TooLargeError, match="more than 5 bytes"):
        PackedFile.open(with_length(b"\x80" * 9), SHAPES)


def test_a_tensor_of_too_few_bytes_is_refused_when_it_is_read() -> None:
    data = with_length(b"\x14")
    data = data[:33] + data[37:]  # four bytes less, and nothing else
    with PackedFile.open(data, SHAPES) as file:
        with pytest.raises(MalformedError, match=r"q\.lora_A: 20 bytes are not 6 float32"):
            file.get("q.lora_A")
        np.testing.assert_array_equal(file.get("q.lora_B"), sample()["q.lora_B"])


def test_a_file_that_is_cut_off_anywhere_is_refused_before_anything_is_read() -> None:
    for keep in range(len(packed())):
        with pytest.raises(MalformedError):
            PackedFile.open(packed()[:keep], SHAPES)


def test_bytes_after_the_last_tensor_are_refused() -> None:
    size = len(packed())
    with pytest.raises(TooLargeError, match=f"has {size + 1} bytes; its tensors end at {size}"):
        PackedFile.open(packed() + b"\0", SHAPES)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"LKP\x01\x03raw", "version 01; this version reads 02"),
        (b"LKP\x03\x03raw", "version 03"),
        (b"PK\x03\x04\x03raw", "begins with"),
        (b"LKP\x02\x06../raw", "known here are"),
        (b"LKP\x02\x08contract", "known here are"),
        (b"LKP\x02\x03r\xffw", "known here are"),
        (b"LKP\x02\x00", "known here are"),
    ],
)
def test_heads_that_are_none_are_refused(head: bytes, says: str) -> None:
    with pytest.raises(MalformedError, match=says):
        PackedFile.open(head + packed()[8:], SHAPES)


@pytest.mark.parametrize("codec", CODEC_NAMES)
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_no_changed_byte_leads_anywhere_but_to_malformed_or_right_shapes(
    codec: str, position: int, byte: int
) -> None:
    data = bytearray(packed(codec))
    data[position % len(data)] = byte
    try:
        with PackedFile.open(bytes(data), SHAPES) as file:
            assert {name: file.get(name).shape for name in file.names()} == SHAPES
    except MalformedError:
        pass


@given(data=st.binary(max_size=300))
@settings(deadline=None)
def test_noise_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        PackedFile.open(data, SHAPES)


def test_a_file_that_shrinks_after_it_was_opened_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "set"
    data = pack({"w": np.ones(50_000, np.float32)}, by_name("raw"), 0)
    path.write_bytes(data)
    with PackedFile.open(path, {"w": (50_000,)}) as file:
        path.write_bytes(data[:-40])
        with pytest.raises(MalformedError, match="has 199960 of 200000 bytes"):
            file.get("w")


def test_a_name_that_was_not_expected_is_a_key_error() -> None:
    with PackedFile.open(packed(), SHAPES) as file, pytest.raises(KeyError):
        file.get("v.lora_A")


def test_reading_one_tensor_loads_no_other(tmp_path: Path) -> None:
    # 20 tensors of 1 MB; opening and reading one may take a few MB, never 20.
    shapes = {f"t{index}": (256, 1024) for index in range(20)}
    path = tmp_path / "set"
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    path.write_bytes(pack(tensors, by_name("raw"), 0))
    del tensors
    tracemalloc.start()
    try:
        with PackedFile.open(path, shapes) as file:
            for name in file.names():
                assert file.get(name).shape == (256, 1024)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2**20


def test_what_was_read_outlives_the_file_and_may_be_changed() -> None:
    with PackedFile.open(packed(), SHAPES) as file:
        tensor = file.get("q.lora_A")
    tensor += 1
    assert tensor[0].tolist() == [2.0, 3.0, 4.0]


def test_nothing_is_read_as_zeros() -> None:
    shapes = {"a": (2, 2), "b": (3,)}
    with reading(None, shapes) as tensor_of:
        assert tensor_of("b").tolist() == [0, 0, 0]
    one = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    with reading(pack(one, by_name("raw"), 0), shapes) as tensor_of:
        assert tensor_of("a").tolist() == [[1, 1], [1, 1]]
    with pytest.raises(MalformedError), reading(b"LKP", shapes):
        pass
