"""Whether bfloat16 is worth it, from recorded lines of /proc/cpuinfo."""

import pytest

from edge_agent.probe.arithmetic import compute_bytes, fast_bf16


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
