"""Which arithmetic the processor does quickly."""

from pathlib import Path

#: Matrix products in bfloat16: Intel and AMD (AVX-512 BF16, AMX), Arm (the BF16 extension).
_FAST_BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})


def fast_bf16(root: Path = Path("/")) -> bool:
    """Return whether the processor multiplies bfloat16 numbers itself.

    Elsewhere they would be converted for each product, which takes longer than float32 throughout.

    Args:
        root: where ``proc`` is; another folder in tests.
    """
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    for line in lines:
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return not _FAST_BF16.isdisjoint(flags.split())
    return False


def compute_bytes(stored_bytes: float, *, bf16: bool) -> int:
    """Return the bytes of a number in memory: bfloat16 where the file has no more and it is fast.

    Args:
        stored_bytes: of a parameter in the base's file, in the mean.
        bf16: of `fast_bf16`.
    """
    # A few norms in float32 don't make a file of float32.
    return 2 if bf16 and round(stored_bytes) <= 2 else 4
