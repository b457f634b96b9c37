"""Headers that the `gguf` package writes, and headers that nobody should."""

import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from wire.errors import MalformedError
from wire.gguf_header import GgufTensor, read_header


def written(path: Path) -> gguf.GGUFWriter:
    return gguf.GGUFWriter(path, "llama")


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_metadata_and_tensors_are_those_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = written(path)
    writer.add_uint32("a.count", 7)
    writer.add_float32("a.real", 0.5)
    writer.add_bool("a.flag", True)
    writer.add_int64("a.negative", -(2**40))
    writer.add_array("a.list", [4, 5, 6])
    writer.add_array("a.words", ["one", "two"])
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    packed = gguf.quants.quantize(np.ones((5, 64), np.float32), Kind.Q4_0)
    writer.add_tensor("rows", rows)
    writer.add_tensor("packed", packed, raw_dtype=Kind.Q4_0)
    finish(writer)
    header = read_header(path)
    assert header.metadata == {
        "general.architecture": "llama",
        "a.count": 7,
        "a.real": 0.5,
        "a.flag": True,
        "a.negative": -(2**40),
        "a.list": [4, 5, 6],
    }
    assert header.lengths == {"a.list": 3, "a.words": 2}
    assert read_header(path, arrays=["a.words"]).metadata["a.words"] == ["one", "two"]
    assert header.tensors["rows"].shape == (2, 3)
    assert header.tensors["packed"].shape == (5, 64)
    data = path.read_bytes()
    for name, value in (("rows", rows), ("packed", packed)):
        found = header.tensors[name]
        assert data[found.start : found.start + found.size_bytes] == value.tobytes()


#: Of sums on their way, never of files; and those that came after.
UNKNOWN = {"Q8_1", "Q8_K", "NVFP4", "Q1_0"}


@pytest.mark.parametrize("name", [kind.name for kind in Kind if kind.name not in UNKNOWN])
def test_sizes_of_every_kind_are_those_of_the_gguf_package(tmp_path: Path, name: str) -> None:
    block, block_bytes = gguf.GGML_QUANT_SIZES[Kind[name]]
    path = tmp_path / "m.gguf"
    path.write_bytes(one_tensor(3, [2 * block, 3], Kind[name].value) + bytes(6 * block_bytes))
    found = read_header(path).tensors["t"]
    assert found == GgufTensor(name, (3, 2 * block), 96, 6 * block_bytes)


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def start(tensors: int = 0, entries: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def one_tensor(version: int, sizes: list[int], kind: int, offset: int = 0) -> bytes:
    info = string("t") + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)
    head = start(1, 0, version) + info
    return head + bytes(-len(head) % 32)


def test_version_2_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(one_tensor(2, [4], 0) + bytes(16))
    assert read_header(tmp_path / "m.gguf").tensors["t"].size_bytes == 16


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut short"),
        (b"GGML" + bytes(40), "not a GGUF file"),
        (start(version=1), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (start(2**63, 0), "claims 9223372036854775808 tensors"),
        (start(0, 2**40), "claims 0 tensors and 1099511627776"),
        (start(0, 1), "cut short"),
        (start(0, 1) + struct.pack("<Q", 2**62), "a name of 4611686018427387904 bytes"),
        (start(0, 1) + struct.pack("<Q", 2) + b"\xff\xfe", "no UTF-8"),
        (start(0, 1) + string("k") + struct.pack("<I", 99), "unknown kind 99"),
        (start(0, 1) + string("k") + struct.pack("<IQ", 8, 2**61), "impossibly long"),
        (start(0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 2**50), "array of 1125899906842624"),
        (start(0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 9) + b"\xff" * 8, "impossibly long"),
        (start(0, 1) + string("k") + struct.pack("<IIQ", 9, 4, 2**62), "impossibly long"),
        (start(0, 1) + string("k") + struct.pack("<IIQ", 9, 9, 1), "array of the kind 9"),
        (start(0, 2) + 2 * (string("k") + struct.pack("<IB", 0, 1)), "key 'k' twice"),
        (start(0, 1) + string("general.alignment") + struct.pack("<II", 4, 24), "alignment is 24"),
        (start(0, 1) + string("general.alignment") + struct.pack("<II", 4, 4), "alignment is 4"),
        (start(1, 0) + string("t") + struct.pack("<I", 5), "5 dimensions"),
        (one_tensor(3, [4], 77), "type 77, unknown here"),
        (one_tensor(3, [33], 2) + bytes(99), r"Q4_0 has the shape \[33\]"),
        (one_tensor(3, [0], 0), r"has the shape \[0\]"),
        (one_tensor(3, [2**60, 2**60], 0), "has the shape"),
        (one_tensor(3, [2**39, 2**39], 0), "cut short"),
        (one_tensor(3, [4], 0, offset=2**63) + bytes(16), "cut short"),
        (one_tensor(3, [4], 0, offset=8) + bytes(64), "stands at 8"),
        (one_tensor(3, [4], 0) + bytes(15), "cut short"),
        (start(2, 0) + 2 * (string("t") + struct.pack("<IQIQ", 1, 1, 24, 0)) + bytes(64), "twice"),
    ],
)
def test_what_can_not_be_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(MalformedError, match=reason) as caught:
        read_header(path)
    assert "m.gguf" in str(caught.value)


def test_every_cut_of_a_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = written(path)
    writer.add_array("words", ["one", "two"])
    writer.add_tensor("rows", np.ones((2, 3), np.float32))
    finish(writer)
    whole = path.read_bytes()
    end = read_header(path).tensors["rows"]
    for size in range(end.start + end.size_bytes):
        path.write_bytes(whole[:size])
        with pytest.raises(MalformedError):
            read_header(path)


_MEASURE = """
import resource, sys
from pathlib import Path
from wire.gguf_header import read_header
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
header = read_header(Path(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, header.lengths["t.tokens"])
print(*{"numpy", "torch", "gguf"} & set(sys.modules))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB there")
def test_a_large_vocabulary_costs_a_supervisor_next_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    words = b"".join(string(f"token number {i}") for i in range(152_000))
    array = struct.pack("<IIQ", 9, 8, 152_000) + words
    numbers = struct.pack("<IIQ", 9, 6, 400_000) + bytes(1_600_000)
    path.write_bytes(start(0, 2) + string("t.tokens") + array + string("t.scores") + numbers)
    command = [sys.executable, "-c", _MEASURE, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, imported = run.stdout.split("\n")[:2]
    assert grown.split()[1] == "152000"
    assert int(grown.split()[0]) < 2 * 1024
    assert imported == ""
