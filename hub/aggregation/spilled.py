"""A sum of low-rank products that rests in a file, so that memory is the same for any number."""

import tempfile
import weakref
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array64 = NDArray[np.float64]

#: Of the matrix that the sum makes, when it is gone through as such.
_ROWS = 256


class SpilledSum:
    """The sum of blocks b @ a, each of which is read again whenever the sum is used.

    The file has no name and is gone with this object; it lies in the system's temporary folder.

    Args:
        out, width: of the matrix that the sum makes.
    """

    def __init__(self, out: int, width: int) -> None:
        self.out, self.width = out, width
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this object
        weakref.finalize(self, self._file.close)
        self._ranks: list[int] = []

    def add(self, b: Array64, a: Array64) -> None:
        """Append a block: (out, r) by (r, width)."""
        self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(b.T).data)
        self._file.write(np.ascontiguousarray(a).data)
        self._ranks.append(b.shape[1])

    def times(self, columns: Array64) -> Array64:
        """Return the sum times columns: (width, k) to (out, k)."""
        total = np.zeros((self.out, columns.shape[1]))
        for bt, a in self._blocks():
            total += bt.T @ (a @ columns)
        return total

    def transposed_times(self, columns: Array64) -> Array64:
        """Return the sum, transposed, times columns: (out, k) to (width, k)."""
        total = np.zeros((self.width, columns.shape[1]))
        for bt, a in self._blocks():
            total += a.T @ (bt @ columns)
        return total

    def norm(self) -> float:
        """Return the Frobenius norm; what cancels in the sum cancels before it is squared."""
        squares = 0.0
        for at in range(0, self.out, _ROWS):
            rows = np.zeros((min(_ROWS, self.out - at), self.width))
            for bt, a in self._blocks():
                rows += bt[:, at : at + _ROWS].T @ a
            squares += float(np.vdot(rows, rows))
        return float(np.sqrt(squares))

    def _blocks(self) -> Iterator[tuple[Array64, Array64]]:
        """Yield each block: b transposed, (r, out), and a, (r, width)."""
        self._file.seek(0)
        for rank in self._ranks:
            room = np.empty(rank * (self.out + self.width))
            self._file.readinto(room.data)
            split = rank * self.out
            yield room[:split].reshape(rank, self.out), room[split:].reshape(rank, self.width)
