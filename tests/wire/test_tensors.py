"""Packed tensor sets: what a peer may lie about, and that reading stays lazy."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from wire.codecs import CODEC_NAMES, by_name
from wire.errors import MalformedError, TooLargeError
from wire.tensors import MAX_HEADER_BYTES, PackedFile, pack

SHAPES = {"q.lora_A": (2, 3), "q.lora_B": (4, 2)}


def sample() -> dict[str, np.ndarray]:
    return {
        "q.lora_A": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        "q.lora_B": np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32),
    }


def packed(codec: str = "raw") -> bytes:
    return pack(sample(), by_name(codec), seed=1)


def header_of(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    return header


def with_header(data: bytes, header: object) -> bytes:
    """The same arrays under another header."""
    length = int.from_bytes(data[:8], "little")
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def changed(array: str, key: str, value: object) -> bytes:
    header = header_of(packed())
    header[array][key] = value
    return with_header(packed(), header)


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


def test_other_readers_of_safetensors_read_it_too() -> None:
    loaded = safetensors.numpy.load(packed())
    assert sorted(loaded) == ["q.lora_A::fp32", "q.lora_B::fp32"]
    np.testing.assert_array_equal(loaded["q.lora_A::fp32"], sample()["q.lora_A"])
    assert header_of(packed())["__metadata__"] == {"lorikeet": "1", "codec": "raw"}


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


def test_a_name_with_the_separator_is_not_packed() -> None:
    with pytest.raises(ValueError, match="a::b"):
        pack({"a::b": np.zeros(1, np.float32)}, by_name("raw"), 0)


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


def test_a_missing_tensor_is_named() -> None:
    with pytest.raises(MalformedError, match=r"lacks 1 arrays: extra::fp32"):
        PackedFile.open(packed(), {**SHAPES, "extra": (1,)})


def test_a_tensor_too_many_is_named() -> None:
    with pytest.raises(MalformedError, match=r"1 arrays too many: q\.lora_B::fp32"):
        PackedFile.open(packed(), {"q.lora_A": (2, 3)})


def test_a_message_does_not_repeat_a_flood_of_names() -> None:
    header = header_of(packed())
    for index in range(40):
        header["x" * 20 + str(index)] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    with pytest.raises(MalformedError) as caught:
        PackedFile.open(with_header(packed(), header), SHAPES)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", "F64"),
        ("dtype", "I32"),
        ("shape", [3, 2]),
        ("shape", [6]),
        ("shape", [2, 3, 1]),
        ("shape", [-2, -3]),
        ("shape", [2**40, 2**40]),
        ("shape", [True, 6]),
        ("shape", "2,3"),
        ("data_offsets", [0, 20]),
        ("data_offsets", [0, 2**62]),
        ("data_offsets", [-24, 0]),
        ("data_offsets", [24, 0]),
        ("data_offsets", [8, 32]),
        ("data_offsets", [0]),
        ("surprise", 1),
    ],
)
def test_lies_about_an_array_are_refused(key: str, value: object) -> None:
    with pytest.raises(MalformedError, match=r"q\.lora_A"):
        PackedFile.open(changed("q.lora_A::fp32", key, value), SHAPES)


def test_arrays_that_overlap_are_refused() -> None:
    # lora_A takes bytes 0 to 24; lora_B, of 32 bytes, may not begin inside it.
    with pytest.raises(MalformedError, match="without gaps"):
        PackedFile.open(changed("q.lora_B::fp32", "data_offsets", [16, 48]), SHAPES)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 60])
def test_a_file_cut_off_in_the_header_is_refused(keep: int) -> None:
    with pytest.raises(MalformedError):
        PackedFile.open(packed()[:keep], SHAPES)


def test_a_file_cut_off_in_the_arrays_is_refused_before_anything_is_read() -> None:
    with pytest.raises(MalformedError, match="has 55 of 56 bytes"):
        PackedFile.open(packed()[:-1], SHAPES)


def test_bytes_after_the_last_array_are_refused() -> None:
    with pytest.raises(TooLargeError, match=r"57 bytes of arrays; expected are 56"):
        PackedFile.open(packed() + b"\0", SHAPES)


@pytest.mark.parametrize("claim", [MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_a_header_that_claims_too_much_is_refused_unread(claim: int) -> None:
    with pytest.raises(TooLargeError, match=str(claim)):
        PackedFile.open(claim.to_bytes(8, "little") + b"{}", SHAPES)


def test_a_long_header_for_few_tensors_is_refused_unread() -> None:
    # Two tensors never need 100 kB of header; real ones take some 100 bytes an array.
    text = b"{" + b" " * 100_000 + b"}"
    with pytest.raises(TooLargeError):
        PackedFile.open(len(text).to_bytes(8, "little") + text, SHAPES)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 6000,
        b'{"a":' * 1100,
        b'{"__metadata__":' + b"[" * 5000 + b"]" * 5 + b"}",
        b'{"__metadata__":{"lorikeet":"1","codec":' + b"[" * 5000,
        b"\xff\xfe{}",
        b"null",
        b"[]",
        b"",
        b'{"__metadata__":{"lorikeet":"1"}}',
        b'{"__metadata__":{"lorikeet":1,"codec":"raw"}}',
        b'{"__metadata__":{"lorikeet":"1","codec":"raw","x":"y"}}',
    ],
)
def test_headers_that_are_none_are_refused(header: bytes) -> None:
    with pytest.raises(MalformedError):
        PackedFile.open(with_header(packed(), header), SHAPES)


def test_a_set_that_names_no_codec_is_refused() -> None:
    foreign = safetensors.numpy.save({"q.lora_A::fp32": sample()["q.lora_A"]})
    with pytest.raises(MalformedError, match="must name its codec"):
        PackedFile.open(foreign, {"q.lora_A": (2, 3)})


@pytest.mark.parametrize(
    ("lorikeet", "codec", "says"),
    [("1", "../raw", "known here are"), ("1", "contract", "known here"), ("2", "raw", "reads '1'")],
)
def test_an_unknown_codec_or_version_is_refused(lorikeet: str, codec: str, says: str) -> None:
    header = header_of(packed())
    header["__metadata__"] = {"lorikeet": lorikeet, "codec": codec}
    with pytest.raises(MalformedError, match=says):
        PackedFile.open(with_header(packed(), header), SHAPES)


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_no_changed_byte_leads_anywhere_but_to_malformed_or_right_shapes(
    position: int, byte: int
) -> None:
    data = bytearray(packed("int8"))
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
