"""Whether bfloat16 is worth it, from recorded lines of /proc/cpuinfo."""

import pytest

from edge_agent.probe.arithmetic import compute_bytes, fast_bf16, processor


@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_tile\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n", False),
        # Raspberry Pi 5 (Cortex-A76) has no BF16 extension, a Grace core has.
        ("processor\t: 0\nFeatures\t: fp asimd evtstrm aes asimddp\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n", True),
    ],
)
def test_the_processors_flags_decide(tmp_path, cpuinfo, fast):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    assert fast_bf16(tmp_path) is fast


def test_what_can_not_be_read_is_not_fast(tmp_path):
    assert not fast_bf16(tmp_path)


def test_a_file_of_float32_stays_so():
    assert [compute_bytes(size, bf16=True) for size in (1, 2, 4)] == [2, 2, 4]
    assert [compute_bytes(size, bf16=False) for size in (1, 2, 4)] == [4, 4, 4]


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "model name\t: A CPU @ 2GHz\nflags\t: sse2\n\nmodel name\t: A CPU @ 2GHz\n",
            "A CPU @ 2GHz",
        ),
        # As a Raspberry Pi 5 prints it; then two kinds of cores of a phone.
        (
            "CPU implementer\t: 0x41\nCPU part\t: 0xd0b\n\nModel\t: Raspberry Pi 5 Model B\n",
            "0x41, 0xd0b, Raspberry Pi 5 Model B",
        ),
        ("CPU part\t: 0xd05\n\nCPU part\t: 0xd41\n", "0xd05, 0xd41"),
        ("bogomips\t: 1\n", ""),
    ],
)
def test_the_processor_is_named(tmp_path, cpuinfo, name):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo)
    assert processor(tmp_path) == name
