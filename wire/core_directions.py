"""Cores between an adapter's own factors: B = U C, of which only C is trained.

As in Fed-SB (Singhal et al. 2025, arXiv 2502.15436) and LoRA-XS (Bałazy et al. 2024, arXiv
2405.17604) a small matrix is trained between frozen directions, so that the product U C A is linear
in what travels. The directions are those of the adapter itself, which device and hub both hold: the
rows of A, and an orthonormal basis U of B's columns, which both compute alike.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

#: A column that points out of those before it by less, against the longest of them and itself, has
#: no direction of its own: its bits are rounding. Both sides compute in float64 from equal float32.
_OWN = 1e-5
#: Of random signs, what points out of the others: about 1 where one direction is left, else more.
_ENOUGH = 0.3


def directions(b: Array) -> tuple[Array, Array]:
    """Return U and C with U C = B.

    Args:
        b: the leading columns of a published B, (out, rank).

    Returns:
        U (out, rank): orthogonal columns of norm √out, so that a step on C moves the outputs as far
        as one on B. The first k depend on the first k of B alone; a column without a direction of
        its own gets a fixed one, and zeros once there is no room for another. C (rank, rank): upper
        triangular.
    """
    out, rank = b.shape
    columns = b.astype(np.float64)
    longest = np.maximum.accumulate(np.linalg.norm(columns, axis=0))
    u = np.zeros((out, rank), dtype=np.float64)
    for at in range(min(out, rank)):
        row = _outside(columns[:, at], u[:, :at])
        if float(np.linalg.norm(row)) <= _OWN * longest[at]:
            row = _any_outside(at, u[:, :at])
        u[:, at] = row / np.linalg.norm(row)
    scale = np.sqrt(out)
    return (u * scale).astype(np.float32), (np.triu(u.T @ columns) / scale).astype(np.float32)


def _outside(column: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what of a column is orthogonal to unit columns; twice, as the first time rounds."""
    for _ in range(2):
        column = column - u @ (u.T @ column)
    return column


def _any_outside(at: int, u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is orthogonal to unit columns of random signs, the same on every machine."""
    out = len(u)
    attempt = 0
    while True:
        data = hashlib.shake_256(f"core {at} {attempt}".encode()).digest(-(-out // 8))
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[:out]
        row = _outside(2.0 * bits.astype(np.float64) - 1.0, u)
        if float(np.linalg.norm(row)) > _ENOUGH:
            return row
        attempt += 1
