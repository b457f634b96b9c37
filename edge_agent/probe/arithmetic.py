"""Which arithmetic the processor does quickly."""

from collections.abc import Iterator
from pathlib import Path

#: Matrix products in bfloat16: Intel and AMD (AVX-512 BF16, AMX), Arm (the BF16 extension).
_FAST_BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})


def fast_bf16(root: Path = Path("/")) -> bool:
    """Return whether the processor multiplies bfloat16 numbers itself.

    Elsewhere they would be converted for each product, which takes longer than float32 throughout.

    Args:
        root: where ``proc`` is; another folder in tests.
    """
    for name, flags in _cpuinfo(root):
        if name in ("flags", "Features"):
            return not _FAST_BF16.isdisjoint(flags.split())
    return False


def processor(root: Path = Path("/")) -> str:
    """Return the processor's name, on Arm its part number and the board's; empty if unknown.

    Args:
        root: where ``proc`` is; another folder in tests.
    """
    wanted = ("model name", "CPU implementer", "CPU part", "Hardware", "Model")
    # Cores of several kinds give several parts.
    found = [value for name, value in _cpuinfo(root) if name in wanted]
    return ", ".join(dict.fromkeys(found))


def _cpuinfo(root: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


def compute_bytes(stored_bytes: float, *, bf16: bool) -> int:
    """Return the bytes of a number in memory: bfloat16 where the file has no more and it is fast.

    Args:
        stored_bytes: of a parameter in the base's file, in the mean.
        bf16: of `fast_bf16`.
    """
    # A few norms in float32 don't make a file of float32.
    return 2 if bf16 and round(stored_bytes) <= 2 else 4
